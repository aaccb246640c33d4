/**
 * What we show to the server that an archive comes from, in this order: `user:password@` of the URL;
 * DDBG_FSTREE_TOKEN as a bearer token; DDBG_FSTREE_HEADER, beside either of them if it is another header; else netrc.
 * All of it is for the origin of the URL as it was given; fetch.ts sees to that.
 */
import { attempt } from '../attempt.ts';
import type { Log } from '../log.ts';
import { findLogin } from './netrc.ts';
import { refusal, type Subject } from './subject.ts';

export interface Credentials {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** What must not be shown, should the server send it back to us. */
  readonly secrets: readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

const NONE: Credentials = { headers: {}, secrets: [] };

/** Headers that are ours to set, or that would change what the bytes of the answer are. */
const NOT_TO_BE_GIVEN = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'expect',
  'host',
  'if-range',
  'keep-alive',
  'proxy-authorization', // is for a proxy, and says so in the proxy's own variable
  'proxy-connection',
  'range',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** @throws EntryError DDBG_BAD_DIRECTIVE for a variable of ours that cannot be sent as it is */
export function findCredentials(
  url: URL,
  userinfo: Credentials,
  environment: Environment,
  subject: Subject,
  log: Log,
): Credentials {
  const token = tokenOf(environment, subject);
  const header = headerOf(environment, subject);
  const first = userinfo === NONE ? token : userinfo;
  const both = {
    headers: { ...header.headers, ...first.headers },
    secrets: [...userinfo.secrets, ...token.secrets, ...header.secrets],
  };
  if (Object.keys(both.headers).length > 0) return both;
  const found = findLogin(url.hostname.replace(/^\[|\]$/g, ''), environment, log);
  return found === undefined ? NONE : basic('authorization', found.login, found.password);
}

/** The URL as it goes over the wire, and what stood before its `@`. */
export function takeUserinfo(
  location: string,
  header: 'authorization' | 'proxy-authorization' = 'authorization',
): { url: URL; userinfo: Credentials } {
  const url = new URL(location);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  url.hash = '';
  if (username === '' && password === '') return { url, userinfo: NONE };
  return { url, userinfo: basic(header, decoded(username), decoded(password)) };
}

function basic(header: string, username: string, password: string): Credentials {
  const pair = Buffer.from(`${username}:${password}`).toString('base64');
  // A user name alone is a token, or as good as one.
  const secrets = password === '' ? [username, pair] : [password, pair];
  return { headers: { [header]: `Basic ${pair}` }, secrets };
}

function decoded(text: string): string {
  return attempt(() => decodeURIComponent(text), text);
}

function tokenOf(environment: Environment, subject: Subject): Credentials {
  const token = environment.DDBG_FSTREE_TOKEN?.trim() ?? ''; // a secret out of a file ends with a line break
  if (token === '') return NONE;
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw unusable('DDBG_FSTREE_TOKEN', 'blanks, line breaks or characters beyond ASCII', subject);
  }
  return { headers: { authorization: `Bearer ${token}` }, secrets: [token] };
}

function headerOf(environment: Environment, subject: Subject): Credentials {
  const text = environment.DDBG_FSTREE_HEADER ?? '';
  if (text === '') return NONE;
  const variable = 'DDBG_FSTREE_HEADER';
  if (/[\r\n\0]/.test(text)) throw unusable(variable, 'a line break', subject);
  // The characters of a name and of a value: RFC 9110, 5.1 and 5.5.
  const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/.exec(text) ?? [];
  if (name === undefined || !value) throw unusable(variable, undefined, subject);
  if (NOT_TO_BE_GIVEN.has(name.toLowerCase())) {
    const why = `${variable} cannot be ${name}: that header is ours to set`;
    throw refusal('DDBG_BAD_DIRECTIVE', 'fetch', subject, why, 'Give the header that the server asks for.');
  }
  const parts = value.split(/\s+/).filter((part) => part.length >= 8); // the token in `Bearer TOKEN`
  return { headers: { [name.toLowerCase()]: value }, secrets: [value, ...parts] };
}

function unusable(variable: string, holds: string | undefined, subject: Subject): Error {
  const why = holds === undefined ? `${variable} is no header` : `${variable} holds ${holds}`;
  const hint =
    variable === 'DDBG_FSTREE_TOKEN'
      ? 'It is the token alone, as the server gave it.'
      : 'It is one header, Name: value.';
  return refusal('DDBG_BAD_DIRECTIVE', 'fetch', subject, why, hint);
}

/** Shorter ones are not looked for: to blank each `a` would tell more than it hides. */
const SHORTEST_SECRET = 4;

/** The text without the secrets, in upper or lower case (a host name comes back in lower case), plain or percent-encoded. */
export function maskSecrets(text: string, secrets: readonly string[]): string {
  const forms = secrets
    .filter((secret) => secret.length >= SHORTEST_SECRET)
    .flatMap((secret) => [secret, encodeURIComponent(secret), encodeURI(secret)])
    .sort((one, other) => other.length - one.length)
    .map((form) => form.replace(/[^\w]/g, '\\$&'));
  return forms.length === 0 ? text : text.replace(new RegExp([...new Set(forms)].join('|'), 'gi'), '***');
}
