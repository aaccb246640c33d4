/**
 * A look at a process, as a value: what `ddbg dump --json` prints.
 */
import type { ResourceLimit } from '../container/limits.ts';
import type { Call } from './calls.ts';
import type { CgroupUse } from './cgroup.ts';
import type { Descriptor } from './descriptors.ts';
import type { Descendant } from './family.ts';
import type { Mapped, MemoryUse } from './memory.ts';
import type { Runtime } from './runtime.ts';

/** Names and paths are text; a byte of theirs that is no UTF-8 is a lone surrogate, U+DC80 to U+DCFF. What is not known is null. */
export interface Dump {
  readonly schema: 1;
  /** ISO 8601. */
  readonly at: string;
  readonly pid: number;
  readonly name: string;
  /** What it waits for, as far as /proc decides it; one sentence without its subject. */
  readonly waits: string;
  /** The kernel's letter, proc(5). */
  readonly state: string;
  readonly parent: { readonly pid: number; readonly name: string | null };
  readonly tracer: { readonly pid: number; readonly name: string | null } | null;
  /** Effective. */
  readonly uid: number;
  readonly gid: number;
  /** Without secrets; null for a kernel thread, or where it may not be read. */
  readonly argv: readonly string[] | null;
  /** `NAME=value`, without secrets. */
  readonly environment: readonly string[] | null;
  readonly executable: string | null;
  readonly directory: string | null;
  /** Null: it is the one that we see. */
  readonly root: string | null;
  readonly ranSeconds: number | null;
  readonly runtime: Runtime | null;
  readonly processor: {
    /** Of one core, over `sampledMs`; all threads together. */
    readonly percent: number;
    readonly sampledMs: number;
    /** Since it was started. */
    readonly seconds: number;
  };
  readonly threads: readonly DumpThread[];
  readonly signals: {
    readonly pending: readonly string[];
    readonly blocked: readonly string[];
    readonly ignored: readonly string[];
    readonly caught: readonly string[];
  };
  /** Null: they may not be read. */
  readonly descriptors: readonly Descriptor[] | null;
  readonly limits: readonly ResourceLimit[];
  readonly memory: MemoryUse;
  readonly mapped: Mapped | null;
  readonly descendants: readonly Descendant[];
  readonly cgroup: CgroupUse;
  /** What could not be read, and why. */
  readonly unread: readonly { readonly what: string; readonly why: string }[];
}

export interface DumpThread {
  readonly tid: number;
  readonly name: string;
  readonly state: string;
  /** The same some time later: false says that it has moved. */
  readonly isSteady: boolean;
  /** Of one core, over `processor.sampledMs`. */
  readonly percent: number;
  readonly wchan: string | null;
  /** On a processor, or ready for one, at the moment of the look. */
  readonly isRunning: boolean;
  /** Null: it is in none, or that may not be known. */
  readonly call: Call | null;
  /** Who has the lock that it waits for in `call`. */
  readonly lockHolder: { readonly pid: number; readonly name: string } | null;
  /** The innermost first; only of some threads, and where it may be read. */
  readonly kernelStack: readonly string[] | null;
}
