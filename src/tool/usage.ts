/**
 * What `ddbg TOOL --help` says.
 */
export const USAGE: Readonly<Record<string, string>> = {
  dump: `ddbg dump [PID] [--all] [--signal[=QUIT]]

One look at a process, by default the command, while it runs on: what it waits for, its threads and their system calls,
open files, sockets and who has the other end of pipes, limits, memory, children, cgroup. Nothing is traced or stopped.
Secrets in its arguments and environment are masked.

  --all             every thread, open file, mapped file and variable (default: the first few; --json has all)
  --signal          then ask the runtime in it, where that does no harm: Node started with --report-on-signal writes
                    a diagnostic report, a JVM prints its threads. Said is what was sent, and where the answer goes
  --signal=QUIT     ... also Go, which prints its goroutines on QUIT and ENDS

Exit status: 0 done; 1 no signal was sent; 2 wrong usage; 3 there is no such process.
`,
};
