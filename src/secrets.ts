/**
 * What may be shown of a value that could hold a secret. Lives below the log, so that no line can go out without it.
 */

const MASK = '***';

/** Names whose value is never shown. */
const SECRET_NAME =
  /passw(or)?d|passphrase|pass$|(^|[_.-])(pass|pwd|pw)($|[_.-])|secret|token|credential|private|signature|cookie|session|dsn|auth(?!or)|key|connection_?strings?|headers$/i;
/** Directories and a socket's path, which only sound like secrets. */
const NOT_SECRET_NAME = /^(OLD)?PWD$|^SSH_AUTH_SOCK$/;

/** Parameters that sign a URL, beside those whose name is secret anyway: whoever has them can fetch the file. */
const SIGNS_URL = /sig|jwt|policy|expires|^code$|^s[evpt]$/i;

export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) && !NOT_SECRET_NAME.test(name);
}

/**
 * Any text with the secrets of the URLs inside it masked: user information and query parameters that sign or
 * authorise. Works on pieces of text as well as on whole URLs, and never throws on a malformed one.
 */
export function maskUrls(text: string): string {
  if (!text.includes('://')) return text;
  // Linear on purpose: 100 kB of DEBUG may pass through here.
  return text
    .replace(/(\b[a-z][a-z0-9+.-]{0,30}:\/\/)[^\s/?#]*@/gi, `$1${MASK}@`)
    .replace(/([?&;#])([^=&;#\s]{1,200})=([^&;#\s]*)/g, (whole, mark: string, name: string) =>
      isSecretName(name) || SIGNS_URL.test(name) ? `${mark}${name}=${MASK}` : whole,
    );
}

/** `Password=x` in a connection string, `"password":"x"` in JSON, `Authorization: Bearer x` in a header. */
function maskPairs(text: string): string {
  return text
    .replace(
      /((?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|account|private)[-_]?key)["']?\s{0,3}[=:]\s{0,3}["']?)[^\s"'&;,}]+/gi,
      `$1${MASK}`,
    )
    .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, `$1 ${MASK}`);
}

/** Secret values shorter than this are not searched for in other values: `1` or `true` would blank half the output. */
const SHORTEST_SEARCHED_SECRET = 8;

/**
 * A function that masks text that comes from the command's world (its arguments, its environment): URLs, and the
 * values of every secret-named variable wherever they turn up again.
 */
export function makeMask(
  environment: Readonly<Record<string, string | undefined>>,
): (text: string) => string {
  const values = Object.entries(environment)
    .filter(([name]) => isSecretName(name))
    .flatMap(([, value = '']) => [value, ...value.split('\n')]) // a key in lines is printed in lines
    .filter((value) => value.length >= SHORTEST_SEARCHED_SECRET)
    .sort((one, other) => other.length - one.length);
  return (text) => {
    let shown = text;
    for (const value of values) shown = shown.replaceAll(value, MASK);
    return maskPairs(maskUrls(shown));
  };
}

/** `NAME=value` as it may be shown. */
export function maskVariable(name: string, value: string, mask: (text: string) => string): string {
  if (value === '') return `${name}=`;
  return isSecretName(name) ? `${name}=${MASK}` : `${name}=${mask(value)}`;
}

/** Arguments as they may be shown: `--token=x`, `--token x` and `PASSWORD=x` lose their value. */
export function maskArguments(argv: readonly string[], mask: (text: string) => string): readonly string[] {
  return argv.map((argument, index) => {
    const [, name, value] = /^-{0,2}([\w.-]+)=([\s\S]*)$/.exec(argument) ?? [];
    if (name !== undefined && value !== undefined && isSecretName(name)) {
      return argument.slice(0, argument.length - value.length) + MASK;
    }
    const previous = argv[index - 1];
    const followsSecretFlag =
      previous !== undefined && /^--?[\w.-]+$/.test(previous) && isSecretName(previous.replace(/^-+/, ''));
    return followsSecretFlag && !argument.startsWith('-') ? MASK : mask(argument);
  });
}
