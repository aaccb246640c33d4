/** What an archive is to everything after the readers, whatever its format. */
import type { OverlayLimits } from './limits.ts';
import type { Subject } from './subject.ts';

export type EntryKind = 'file' | 'directory' | 'symlink' | 'hardlink';

export interface ArchiveEntry {
  /** Its place in the archive, from 0: the same in every pass. */
  readonly index: number;
  /** As the archive has it, unchecked; bytes that are no UTF-8 as in octets.ts. */
  readonly name: string;
  readonly kind: EntryKind;
  /** Of its content; 0 for what has none. */
  readonly size: number;
  /** Permission bits with setuid, setgid and sticky; undefined: the archive does not say. */
  readonly mode: number | undefined;
  /** Milliseconds since 1970, with a fraction where the archive has one; undefined: the archive does not say. */
  readonly mtimeMs: number | undefined;
  /** Numbers, never names: those of a container mean nothing elsewhere. Undefined: the archive does not say. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** Of a symlink: its content. Of a hard link: the name of the entry it is one with. */
  readonly linkTarget: string | undefined;
  /** What the archive has and nobody writes: names of extended attributes, ACLs and labels, to be warned about. */
  readonly dropped?: readonly string[] | undefined;
}

/** Where the content of one file goes, in order and at once: readers wait for nobody. */
export interface Sink {
  write(chunk: Uint8Array): void;
  end(): void;
}

export interface Reading {
  readonly subject: Subject;
  readonly limits: OverlayLimits;
  /** Whether #sha256= was given and fits: what has no checksum of its own is read only then. */
  readonly isVerified: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Called for each entry, in the archive's order. Without a sink the content is checked and dropped. */
export type Visit = (entry: ArchiveEntry) => Sink | undefined;

/** Reads the whole archive. Rejects with DDBG_ARCHIVE, DDBG_UNSAFE or DDBG_ABORTED, and with what `visit` throws. */
export type ReadArchive = (path: string, visit: Visit, reading: Reading) => Promise<void>;
