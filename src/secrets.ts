/**
 * What may be shown of a value that could hold a secret. Lives below the log, so that no line can go out without it.
 */

const MASK = '***';

/** Names whose value is not shown. */
const SECRET_NAME =
  /passw(or)?d|passphrase|pass$|(^|[_.-])(pass|pwd|pw)($|[_.-])|secret|token(?!iz)|credential|private|signature|cookie|session|dsn|auth(?!or(?!i[sz]))|key(?!board|stroke)|connection_?strings?|headers$|(^|[_.-])(jwt|bearer|pin)$/i;
/** Directories and a socket's path, which only sound like secrets. */
const NOT_SECRET_NAME = /^(OLD)?PWD$|^SSH_AUTH_SOCK$/;
/** Names that say that something about a secret is in them, and how that looks: anything else may be the secret itself. */
const ABOUT_SECRETS: readonly (readonly [name: RegExp, value: RegExp])[] = [
  [/[_.-](file|path|dir|directory)$/i, /^(\.{0,2}|~)\/\S+$|^[\w./-]+\.[a-z]\w{0,5}$/],
  [/[_.-](ttl|timeout|lifetime|expiry|expiration|max[_-]?age)$/i, /^\d{1,9}(\.\d+)? ?[a-z]{0,7}$/i],
  [/[_.-]header([_.-]name)?$/i, /^[a-z]{1,20}(-[a-z]{1,20}){0,5}$/i],
];

/** Parameters that sign a URL, beside those whose name is secret anyway: whoever has them can fetch the file. */
const SIGNS_URL = /sig|jwt|policy|expires|^code$|^s[evpt]$/i;

export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) && !NOT_SECRET_NAME.test(name);
}

function holdsSecret(name: string, value: string): boolean {
  return isSecretName(name) && !ABOUT_SECRETS.some(([about, looks]) => about.test(name) && looks.test(value));
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
    .replace(PARAMETER, (whole, mark: string, name: string) =>
      isSecretName(name) || SIGNS_URL.test(name) ? `${mark}${name}=${MASK}` : whole,
    );
}

/** Up to a quote that ends the word: that is the text's, not the URL's. */
const PARAMETER = /([?&;#])([^=&;#\s]{1,200})=[^&;#\s]*?(?=(?:["']{1,2}[,.:)\]}]{0,2})?(?:[&;#\s]|$))/g;

/** What a program says of a file or a word, behind `: `, where else the secret would stand. */
const REASON =
  /^(?:permission|access|authentication|authorization|login) (?:is )?(?:denied|failed)|^no such |^(?:is a|not a|is not a) directory|^(?:operation )?not (?:found|permitted|set|allowed|valid|given|provided|configured|supported|executable)\b|^is (?:not|required|missing|empty|invalid|too)\b|^(?:command not found|file (?:exists|name too)|read-only file|too (?:many|short|long)|text file busy|exec format|input\/output|invalid argument|(?:device or )?resource (?:busy|temp)|connection (?:refused|reset|timed)|cannot \w|could not |bad (?:file|address|interpreter)|no space left|stale file|broken pipe)|^(?:required|missing|expired|invalid|empty)(?![^\s.,;)])/i;
/** Of a file it may be any words. */
const WORDS = /^[a-z]+ (?:[a-z]+(?![^\s,.;:)]))/i;

const PAIR =
  /(\/[^\s/:=]{0,200})?((?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|account|private)[-_]?key)["']?\s{0,3}[=:]\s{0,3}["']?)([^\s"'&;,}]+)/gi;

/** `Password=x` in a connection string, `"password":"x"` in JSON, `Authorization: Bearer x` in a header. */
function maskPairs(text: string): string {
  return text
    .replace(PAIR, (whole, path: string | undefined, name: string, value: string, at: number) => {
      if (value === ':' && /["']$/.test(name)) return whole; // `'/etc/secret:': no such file`
      if (/: $/.test(name)) {
        const rest = text.slice(at + whole.length - value.length, at + whole.length + 60);
        if (REASON.test(rest) || (path !== undefined && WORDS.test(rest))) return whole;
        if (/^token/i.test(name) && /unexpected $/i.test(text.slice(Math.max(0, at - 11), at))) return whole; // a parser's
      }
      return `${path ?? ''}${name}${MASK}`;
    })
    .replace(
      /\b(Bearer|Basic)\s+(?!(?:auth(?:entication|orization)?|realm=|token)(?![\w.~+/-]))[\w.~+/=-]+/gi,
      `$1 ${MASK}`,
    )
    .replace(/(\bcookie2?["']?\s{0,3}:\s{0,3}["']?)(?=[\w.-]{1,100}=)[^"'\r\n]+/gi, `$1${MASK}`);
}

/** `curl -u user:password`, as an argument. A user's and a group's number, a port and a URL are none. */
function maskUser(text: string): string {
  return text.replace(/^([^\s:=/]+:)(?!\/\/|\d+$)[\s\S]+$/, `$1${MASK}`);
}

function maskCurl(text: string): string {
  if (!text.includes('curl')) return text;
  return text
    .replace(
      /((?:^|\s)(?:-[uU]|--(?:proxy-)?user)(?:\s{1,3}|=|(?<=-[uU]))["'][^"':=/]{1,200}:)(?!\/\/|\d+["'])[^"']+/g,
      `$1${MASK}`,
    )
    .replace(
      /((?:^|\s)(?:-[uU]|--(?:proxy-)?user)(?:\s{1,3}|=|(?<=-[uU]))["']?[^\s:"'=/-][^\s:"'=/]{0,200}:)(?!\/\/|\d+(?:\s|$))[^\s"']+/g,
      `$1${MASK}`,
    );
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
    .filter(([name, value = '']) => holdsSecret(name, value) && !isInName(name, value))
    .flatMap(([, value = '']) => [value, ...value.split('\n')]) // a key in lines is printed in lines
    .filter((value) => value.length >= SHORTEST_SEARCHED_SECRET)
    .sort((one, other) => other.length - one.length);
  return (text) => {
    let shown = text;
    for (const value of values) shown = shown.replaceAll(value, MASK);
    return maskCurl(maskPairs(maskUrls(shown)));
  };
}

/** POSTGRES_PASSWORD=postgres: to blank the word in all that is said would hide what happened, and tell the password. */
function isInName(name: string, value: string): boolean {
  return name.toLowerCase().includes(value.toLowerCase());
}

/** `NAME=value` as it may be shown. */
export function maskVariable(name: string, value: string, mask: (text: string) => string): string {
  if (value === '') return `${name}=`;
  return holdsSecret(name, value) ? `${name}=${MASK}` : `${name}=${mask(value)}`;
}

/** Arguments as they may be shown: `--token=x`, `--token x`, `PASSWORD=x`, `-u name:x` and `-H 'Cookie: x'` lose their value. */
export function maskArguments(argv: readonly string[], mask: (text: string) => string): readonly string[] {
  return argv.map((argument, index) => {
    if (index === 0 && isProgram(argument)) return maskFolder(argument, mask);
    const [, flag = '', value] = /^(-{0,2}[\w.-]+=|-[HuU](?=[^=]))([\s\S]+)$/.exec(argument) ?? [];
    if (value !== undefined) {
      const shown = maskValue(flag.replace(/=$/, ''), value);
      if (shown !== undefined) return flag + shown;
    }
    const previous = argv[index - 1] ?? '';
    const shown =
      /^--?[\w.-]+$/.test(previous) && !argument.startsWith('-') ? maskValue(previous, argument) : undefined;
    return shown ?? mask(argument);
  });
}

/** Of a flag, or of a variable on the command line. Undefined: it may hold no secret. */
function maskValue(flag: string, value: string): string | undefined {
  if (holdsSecret(flag.replace(/^-+/, ''), value)) return MASK;
  if (/^(-[uU]|--(proxy-)?user)$/.test(flag)) {
    const shown = maskUser(value);
    return shown === value ? undefined : shown;
  }
  if (!/^(-H|--(proxy-)?header)$/.test(flag)) return undefined;
  const [, header = '', scheme = ''] =
    /^([\w-]{1,100})\s*:\s*((?:Bearer|Basic|Digest)\s+)?\S/i.exec(value) ?? [];
  return isSecretName(header) ? `${header}: ${scheme}${MASK}` : undefined;
}

/** What is called so as a program may be somebody's password as well, and is not told apart from it by hiding it. */
function isProgram(argument: string): boolean {
  return /^(?:[^=:\s]*\/)?[a-z][a-z_+-]{0,40}[\d.]{0,8}(?:\.[a-z]{1,4})?$/.test(argument);
}

function maskFolder(path: string, mask: (text: string) => string): string {
  const at = path.lastIndexOf('/') + 1;
  return mask(path.slice(0, at)) + path.slice(at);
}
