/**
 * A time limit that counts only while nobody is attached. The native init, where it waits alone, has its own: init/init.c
 */
import { steadyMs } from '../clock.ts';
import { attachedSessions } from './attached.ts';

/** What is left of a time limit, and since when it is that. */
export interface Limit {
  readonly leftMs: number;
  /** See clock.ts. */
  readonly fromMs: number;
  /** Somebody is attached: it does not run. */
  readonly stands: boolean;
}

/** How often we look who is attached. */
const LOOK_MS = 5_000;
/** A shorter visit is none: a HEALTHCHECK comes by docker exec too, every few seconds. */
const VISIT_MS = 5_000;

/**
 * The limit after a look at who is attached, and when to look again; `nextMs` 0: it is over. Pure.
 *
 * @param visitMs how long the one who came first has been here; undefined: nobody is
 */
export function afterLook(
  limit: Limit,
  nowMs: number,
  visitMs: number | undefined,
): { readonly limit: Limit; readonly nextMs: number } {
  const stands = visitMs !== undefined && (limit.stands || visitMs >= VISIT_MS);
  // A visit that may become one is not counted yet.
  const countedToMs = Math.max(limit.fromMs, nowMs - (visitMs ?? 0));
  const leftMs = limit.stands ? limit.leftMs : Math.max(0, limit.leftMs - (countedToMs - limit.fromMs));
  const fromMs = limit.stands ? nowMs : countedToMs;
  const restMs = Math.max(0, fromMs + leftMs - nowMs);
  const isOver = !stands && leftMs === 0; // whoever is there came when it was over
  const nextMs = isOver ? 0 : stands ? LOOK_MS : restMs > 0 ? restMs : VISIT_MS - (visitMs ?? 0);
  return { limit: { leftMs, fromMs, stands }, nextMs: Math.min(nextMs, LOOK_MS) };
}

/** Calls `over` when nobody has been attached for so long in all, and `say` with a line when it waits and when it goes on. Returns the way to stop it. */
export function countDown(limitMs: number, say: (line: string) => void, over: () => void): () => void {
  let limit: Limit = { leftMs: limitMs, fromMs: steadyMs(), stands: false };
  let timer = setTimeout(look, Math.min(limitMs, LOOK_MS));
  function look(): void {
    const visits = attachedSessions().map(({ visitMs }) => visitMs);
    const next = afterLook(limit, steadyMs(), visits.length === 0 ? undefined : Math.max(...visits));
    if (next.limit.stands && !limit.stands) say('somebody is attached: the time limit waits');
    if (!next.limit.stands && limit.stands) say(goesOn(next.limit.leftMs));
    limit = next.limit;
    if (next.nextMs === 0) over();
    else timer = setTimeout(look, Math.ceil(next.nextMs));
  }
  return () => clearTimeout(timer);
}

/** As the native init says it. */
function goesOn(leftMs: number): string {
  const seconds = Math.ceil(leftMs / 1000);
  const minutes = Math.floor(seconds / 60);
  const left =
    seconds < 120
      ? `${seconds} s`
      : minutes < 120
        ? `${minutes} min ${seconds % 60} s`
        : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `nobody is attached any more: it ends in ${left}`;
}
