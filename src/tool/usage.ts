/**
 * What `ddbg TOOL --help` says.
 */
export const USAGE: Readonly<Record<string, string>> = {
  dump: `ddbg dump [PID] [--all] [--signal[=QUIT]]

One look at a process, by default the command, while it runs on: what it waits for, its threads and their system calls,
open files, sockets and who has the other end of pipes, limits, memory, children, cgroup. Nothing is traced or stopped.
Secrets in its arguments and environment are masked, also where they turn up in paths.

  --all             every thread, open file, mapped file and variable (default: the first few; --json has all)
  --signal          then ask the runtime in it, where that does no harm: Node started with --report-on-signal writes
                    a diagnostic report, a JVM prints its threads. Said is what was sent, and where the answer goes
  --signal=QUIT     ... also Go, which prints its goroutines on QUIT and ENDS

Exit status: 0 done; 1 no signal was sent; 2 wrong usage; 3 there is no such process.
`,
  diff: `ddbg diff [--stat|--raw] [PATH ...]

What overlays have changed, against what was there before the first of them; of PATHs, what is at and below them.

  --stat            one line a file, without its content
  --raw             for patch(1): nothing is masked or escaped, secrets are in it. ddbg diff --raw | patch -p1 -d DIR

Exit status: 0 done; 2 wrong usage; 4 another user's.
`,
  check: `ddbg check

For a Dockerfile, as root or as the USER that the container will have: RUN ddbg check
Says who will be PID 1, whether the native init runs here, which Node, shells, tools and state directory there are, where
core files go, and the limits. Each finding is ok, a note (it works, but less well) or a problem, with a way out. Limits and
core_pattern are those of the machine that builds. It leaves nothing behind.

Exit status: 0 no problem; 1 something will not work; 2 wrong usage.
`,
  health: `ddbg health

In a Dockerfile: HEALTHCHECK CMD ddbg health   or, in front of a check: CMD ddbg health && curl -f http://localhost/
Exit status: 1, and one line, while the container is held; 0 otherwise, also when ddbg-entry is off.
`,
  hook: `ddbg hook bash|sh|dash|ash|ksh|zsh

Prints the one line for an entrypoint script that is there already, and says where it goes.
Exit status: 0; 2 for another shell.
`,
};
