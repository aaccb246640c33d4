/**
 * Shell tracing for `verbose`: which command lines are shell scripts, and what to change in argv and environment so
 * that the shell traces itself. It writes nothing: `bashTraceScript` is the text of the file that BASH_ENV names.
 *
 * bash is traced through BASH_ENV alone, its command line stays as it is: a PS4 in the environment is ignored by a
 * bash that runs as root, `-x` reaches no nested script, and SHELLOPTS would hand `set -e` down to them.
 * The other shells get `-x` and, where they read it, a PS4 with file and line.
 */
import { realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { attempt } from '../attempt.ts';
import type { Resolution } from './resolve.ts';
import { which } from './resolve.ts';

type Shell = 'sh' | 'dash' | 'ash' | 'bash' | 'ksh' | 'zsh';

const SHELL_NAMES: Readonly<Record<string, Shell>> = {
  sh: 'sh',
  dash: 'dash',
  ash: 'ash',
  bash: 'bash',
  rbash: 'bash',
  ksh: 'ksh',
  ksh93: 'ksh',
  mksh: 'ksh',
  oksh: 'ksh',
  zsh: 'zsh',
};

export interface Trace {
  /** Which shell, for the log. */
  readonly shell: string;
  readonly argv: readonly string[];
  /** Variables to add to the command's environment. BASH_ENV is added to every trace, for the nested scripts. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Debian's dash knows no LINENO, and `set -u` must not fail in the prompt. */
const PLAIN_PS4 = '+ ${0##*/}${LINENO:+:$LINENO}: ';

type Environment = Readonly<Record<string, string | undefined>>;

/** How to trace this command, or undefined when it is no shell script (then it is run untouched). */
export function planTrace(
  argv: readonly string[],
  resolution: Resolution,
  environment: Environment,
): Trace | undefined {
  if (!resolution.ok) return undefined;
  const { path, interpreter } = resolution;
  if (resolution.isPlainText) return traceAs('sh', ['/bin/sh', '-x', path, ...argv.slice(1)], environment);
  if (interpreter === undefined) return traceShellCommand(path, argv, environment);

  // The kernel runs INTERPRETER [ARGUMENT] PATH ARGS: say the same ourselves, with -x behind the shell's own options.
  const found = findShell(interpreter, environment);
  if (found === undefined) return undefined;
  if (found.shell === 'bash' && !ignoresBashEnv(found.options)) return traceByBashEnv(argv);
  const { shell, front, options } = found;
  const traced = endsOptions(options.at(-1)) ? ['-x', ...options] : [...options, '-x'];
  return traceAs(shell, [...front, ...traced, path, ...argv.slice(1)], environment);
}

interface FoundShell {
  readonly shell: Shell;
  /** The interpreter's words up to the shell itself. */
  readonly front: readonly string[];
  /** The shell's own. */
  readonly options: readonly string[];
}

/** Sees through `/bin/sh -e`, `/bin/busybox sh`, `/usr/bin/env bash`, `/usr/bin/env -S bash -eu`. */
function findShell(interpreter: readonly string[], environment: Environment): FoundShell | undefined {
  const [program = '', argument] = interpreter;
  const name = basename(program);
  if (name === 'busybox' || name === 'env') {
    const isSplit = argument !== undefined && /^(-S|--split-string[= ]?)/.test(argument);
    if (isSplit && /["'\\$#]/.test(argument)) return undefined; // env's own quoting: not worth a second parser
    const words = isSplit
      ? argument
          .replace(/^(-S|--split-string[= ]?)/, '')
          .trim()
          .split(/[ \t]+/)
      : [argument ?? ''];
    const at = words.findIndex((word) => !word.startsWith('-') && !/^\w+=/.test(word));
    const word = words[at];
    if (word === undefined || (!isSplit && at > 0)) return undefined;
    const shell = name === 'busybox' ? SHELL_NAMES[word] : shellOf(which(word, environment.PATH) ?? word);
    if (shell === undefined) return undefined;
    return { shell, front: [program, ...words.slice(0, at + 1)], options: words.slice(at + 1) };
  }
  const shell = shellOf(program);
  if (shell === undefined) return undefined;
  return { shell, front: [program], options: argument === undefined ? [] : [argument] };
}

/** The shell a file is. `/bin/sh` counts as what it is called: bash called sh behaves as sh, BASH_ENV included. */
function shellOf(file: string): Shell | undefined {
  const called = SHELL_NAMES[basename(file)];
  if (called !== undefined) return called;
  return attempt(() => SHELL_NAMES[basename(realpathSync(file))]); // /etc/alternatives and the like
}

/** `sh -c '...'` or `bash script.sh`: the command is the shell itself. Interactive ones and `-s` are left alone. */
function traceShellCommand(
  path: string,
  argv: readonly string[],
  environment: Environment,
): Trace | undefined {
  const isBusybox = basename(path) === 'busybox';
  const shell = isBusybox ? SHELL_NAMES[argv[1] ?? ''] : shellOf(path);
  if (shell === undefined) return undefined;
  const front = isBusybox ? 2 : 1;
  const invocation = readShellOptions(argv.slice(front), shell);
  if (!invocation.runsScript) return undefined;
  if (shell === 'bash' && !ignoresBashEnv(invocation.options)) return traceByBashEnv(argv);
  const at = front + invocation.longOptions; // bash takes its --long options only before its short ones
  return traceAs(shell, [...argv.slice(0, at), '-x', ...argv.slice(at)], environment);
}

interface ShellInvocation {
  readonly runsScript: boolean;
  readonly options: readonly string[];
  readonly longOptions: number;
}

function readShellOptions(words: readonly string[], shell: Shell): ShellInvocation {
  const options: string[] = [];
  let longOptions = 0;
  let at = 0;
  let runsString = false;
  for (; at < words.length; at++) {
    const word = words[at] ?? '';
    if (!/^[-+]./.test(word) || endsOptions(word)) break;
    options.push(word);
    if (word.startsWith('--')) {
      if (word === '--rcfile' || word === '--init-file') at++;
      longOptions = at + 1;
      continue;
    }
    if (word.startsWith('-') && /[is]/.test(word)) return { runsScript: false, options, longOptions };
    if (word.startsWith('-') && word.includes('c')) runsString = true;
    if (/o$/.test(word) || (shell === 'bash' && /O$/.test(word))) at++; // takes the next word
  }
  if (endsOptions(words[at])) at++;
  return { runsScript: words[at] !== undefined || (runsString && at < words.length), options, longOptions };
}

/** `-` and `--` end the options: what follows would be taken for the script. */
function endsOptions(word: string | undefined): boolean {
  return word === '-' || word === '--';
}

function ignoresBashEnv(options: readonly string[]): boolean {
  return options.some((word) => word === '--posix' || /^-[a-z]*p/.test(word));
}

function traceByBashEnv(argv: readonly string[]): Trace {
  return { shell: 'bash', argv, environment: {} };
}

function traceAs(shell: Shell, argv: readonly string[], environment: Environment): Trace {
  const readsPs4 = shell !== 'zsh' && shell !== 'bash'; // zsh's own shows file and line already
  const environmentOfTrace = readsPs4 && environment.PS4 === undefined ? { PS4: PLAIN_PS4 } : {};
  return { shell, argv, environment: environmentOfTrace };
}

/** The number of the descriptor that the trace goes to. Scripts use 3-9, 10 and 200 for themselves, bash 255. */
const TRACE_FD = 249;

/**
 * What bash is to source at its start, in the top script and in every nested one.
 *
 * The trace goes to a copy of the stderr that the first bash had, so `$(nested.sh 2>&1)` stays clean: the copy is
 * handed down, its number in DDBG_TRACE_FD.
 *
 * @param userBashEnv the BASH_ENV that was there before us: still sourced, first and untraced
 */
export function bashTraceScript(userBashEnv: string | undefined): string {
  const users =
    userBashEnv === undefined || userBashEnv === ''
      ? ''
      : // bash itself expands the value of BASH_ENV, as inside double quotes
        `if [[ -e "${userBashEnv.replaceAll('"', '\\"')}" ]]; then . "${userBashEnv.replaceAll('"', '\\"')}"; fi\n`;
  return `# Written by ddbg-entry for DEBUG=verbose: makes every bash below the entrypoint trace itself.
${users}if [[ \${DDBG_TRACE_FD-} != ${TRACE_FD} ]] || ! { : >&${TRACE_FD}; } 2>/dev/null; then
  if { exec ${TRACE_FD}>&3; } 3>&2 2>/dev/null; then export DDBG_TRACE_FD=${TRACE_FD}; else unset DDBG_TRACE_FD; fi
fi
[[ -z \${DDBG_TRACE_FD-} ]] || BASH_XTRACEFD=$DDBG_TRACE_FD
PS4='+ \${BASH_SOURCE[0]:-\${0##*/}}:\${LINENO}:\${FUNCNAME[0]:+\${FUNCNAME[0]}():} '
set -x
`;
}
