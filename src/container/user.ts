/**
 * Being another user for some calls. Root in a container lacks CAP_SYS_PTRACE by default, so not even root may look into
 * the process of another user; that user may. And root must not follow the links that another user has laid.
 */

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * From now on files and processes are looked at as that user, by all threads, until the way back is called. Without the
 * right to that (not root, or without CAP_SETUID) nothing changes.
 */
export function becomeUser(user: User): () => void {
  const { geteuid, getegid, seteuid, setegid } = process;
  const [uid, gid] = [geteuid?.(), getegid?.()];
  if (uid !== 0 || gid === undefined || user.uid === 0) return () => {};
  try {
    setegid?.(user.gid);
    seteuid?.(user.uid);
  } catch {
    // what may not be read then, will be said by whoever reads it
  }
  return () => {
    seteuid?.(uid);
    setegid?.(gid);
  };
}

/** Does it as that user. */
export function asUser<T>(user: User, act: () => T): T {
  const goBack = becomeUser(user);
  try {
    return act();
  } finally {
    goBack();
  }
}
