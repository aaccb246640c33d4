#!/usr/bin/env node
/**
 * The bin `ddbg-entry`: argv and environment once, then the pipeline, then its status.
 */
import { fstatSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findCarrier } from './carrier.ts';
import { environmentBeforeNpx } from './container/npx.ts';
import { runEntryOn } from './entry.ts';
import { bareHost, nativeHost } from './host.ts';
import { initFile, install } from './install.ts';
import { createLog } from './log.ts';
import { OWN_FAILURE } from './outcome.ts';
import { parseArguments } from './plan.ts';
import { openLink } from './process/link.ts';
import { sayFailure } from './stages.ts';
import { ownVersion } from './version.ts';

const NAME = 'ddbg-entry';
const dist = fileURLToPath(new URL('.', import.meta.url));

const HELP = `ddbg-entry: the container entrypoint that is not there until you need it

  ddbg-entry [--flag=value ...] [--] COMMAND [ARG ...]

Dockerfile:   ENTRYPOINT ["ddbg-entry", "--", "docker-entrypoint.sh"]
then:         docker run -e DEBUG=verbose,stayalive,fstree=https://host/patch.tar.gz IMAGE

Words in DEBUG, separated by commas (other words in it are left to the command):
  verbose             say every step, show what the command will see (secrets masked),
                      trace shell scripts: for bash with file, line and function
  stayalive           when the command faults, keep the container: exec in, look, then let it go
                      with the status it had. A stop that was asked for is no fault
  stayalive=30m       ... for so long at the most (s, m, h); the clock stands while somebody is attached
  stayalive=always    ... after success too
  fstree=URL          before the command starts, lay a tar (plain, gz, zst, xz, bz2, br), a zip or a directory over
                      the file system, all or nothing: http, https, file or a path. May be given several times,
                      applied in order. .wh.NAME and .wh..wh..opq in it delete, as in the layers of an image
    #sha256=HEX         refuse any other archive
    #strip=N            leading folders to drop (default: found by bin, etc, lib, opt, usr, var ...)
    #owner=archive      owners by number from the archive (default: a replaced file keeps its own, what is new is ours)
    #setuid=keep        keep setuid and setgid bits, and the sticky bit of files (default: dropped)
  record              keep the last MB of the command's stdout and stderr, with times, in the state directory; all of it
                      goes on to where it went before, through a pipe (through a terminal, where it was one)
DDBG takes the same words and nothing else: an unknown one is an error, and DEBUG is left untouched.
DDBG= (empty) switches ddbg-entry off.
DDBG_LOG=json makes every line of ours one JSON object.
Credentials for fstree: user:password@ in the URL, DDBG_FSTREE_TOKEN (sent as Bearer), DDBG_FSTREE_HEADER='Name: value',
or netrc ($NETRC, ~/.netrc); not sent on by a redirect to another origin, never shown. http_proxy, https_proxy, no_proxy and
NODE_EXTRA_CA_CERTS are followed. DDBG_FSTREE_LIMIT takes what --limit does.

Flags, for the image's ENTRYPOINT, where docker run -e cannot change them:
  --allow=LIST            the words that may be used: verbose, stayalive, fstree, record, or none (default: all)
  --root=DIR              what archives are laid over (default: /, and only inside a container)
  --state-dir=DIR         our own files (default: /run/ddbg, /tmp/ddbg-UID or /dev/shm/ddbg-UID)
  --stall-timeout=30s     longest time without a byte from the server
  --fetch-timeout=10m     longest time for a download, retries included
  --limit=NAME=N[,...]    what an archive may ask for, none for no limit (defaults: archive-bytes=4G,
                          unpacked-bytes=16G, file-bytes=8G, entries=200000, depth=100)
  --help, --version

Flags of the native init, which is in front after: RUN ddbg-entry --install
  --init                  stay in front of the command when off, too: pass signals on, reap orphans (default: become it)
  --group                 a signal goes to every process below the command (default: to the command)
  --grace=10s             after a stop: TERM to what the command left behind, so much time, KILL, and wait for it
                          (default: end with the command, as without us)
  --stop-signal-map=TERM:QUIT[,FROM:TO...]
                          a stop by FROM reaches the command as TO, 0: not at all (default: as it is)
  --exit-map=143:0[,FROM:TO...]
                          end with TO instead of FROM; 0 is no fault (default: as it is)
  --pdeathsig=TERM        the signal we get when our parent dies (default: none)
  --group, --grace, --stop-signal-map and --exit-map imply --init
  --install[=DIR]         put it in place of npm's link, or into DIR

Without a word of ours, and without --init, the command replaces ddbg-entry: nothing of it remains. (Without the native
init that needs Node 22.15; before that the command runs as its child.)
With one, the command is a child of ddbg-entry and no longer PID 1: it can then die of its own signals
(sh -c 'kill -SEGV $$' ends with 0 as PID 1, and with 139 otherwise). --init makes that the same, off and on.
A parked container runs the command again on: kill -USR1 1

Exit status: the command's own, 128+S when signal S killed it, 127 not found, 126 not executable,
125 when ddbg-entry failed itself (a bad word, an archive that cannot be laid: nothing was changed).
`;

/** --help, --version and --install: their text goes to stdout. Undefined: none of them; a wrong flag is runEntry's to report. */
function answer(argv: readonly string[]): string | undefined {
  let asked: ReturnType<typeof parseArguments>;
  try {
    asked = parseArguments(argv);
  } catch {
    return undefined;
  }
  switch (asked.question) {
    case 'help':
      return HELP;
    case 'version':
      return `${ownVersion()}\n`;
    case 'install':
      return `${NAME}: ${install(dist, asked.installDirectory, process.env.PATH)}\n`;
    case undefined:
      return undefined;
  }
}

/** NODE_OPTIONS=--inspect is meant for the command: Node has opened the port for us, and the command would find it taken. */
async function leaveInspectorToCommand(): Promise<void> {
  if (!process.env.NODE_OPTIONS?.includes('--inspect')) return;
  const { close } = await import('node:inspector');
  close();
}

/** The init hides the variables that Node and its loader take for their own, and adds the carrier's certificates: init/init.c. */
function unhide(environment: Readonly<Record<string, string | undefined>>) {
  const added = environment.NODE_EXTRA_CA_CERTS === findCarrier()?.certificates ? 'NODE_EXTRA_CA_CERTS' : '';
  return Object.fromEntries(
    Object.entries(environment)
      .filter(([name]) => name !== added)
      .map(([name, value]) => [name.replace(/^DDBG_HIDDEN_/, ''), value ?? '']),
  );
}

/** The descriptor that the init names in our first argument. Nobody else can: it must be a socket. */
function readLink(argument: string): number | undefined {
  const descriptor = /^--init-link=(\d+)$/.exec(argument)?.[1];
  try {
    return descriptor !== undefined && fstatSync(Number(descriptor)).isSocket()
      ? Number(descriptor)
      : undefined;
  } catch {
    return undefined; // it is not open
  }
}

async function main(): Promise<void> {
  const [first = '', ...rest] = process.argv.slice(2);
  const link = readLink(first);
  const argv = link === undefined ? process.argv.slice(2) : rest;
  const given = { argv, environment: link === undefined ? process.env : unhide(process.env) };
  const host =
    link === undefined ? bareHost({ argv, init: initFile(dist) }) : nativeHost(openLink(link), given);
  try {
    const text = answer(argv);
    if (text !== undefined) {
      print(text);
      host.exit(0);
    }
  } catch (error) {
    sayFailure(createLog(), error);
    host.exit(OWN_FAILURE);
  }
  await leaveInspectorToCommand();
  const environment = environmentBeforeNpx(given.environment, host.pid);
  // exit() and not exitCode: a hook's or a library's forgotten timer must not keep the container.
  host.exit(await runEntryOn(host, { argv, environment }));
}

function print(text: string): void {
  try {
    writeSync(1, text);
  } catch {
    // nobody reads it: `ddbg-entry --help | true`
  }
}

void main();
