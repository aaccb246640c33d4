/**
 * The public names.
 */
export type { EntryInput } from './entry.ts';
export { runEntry } from './entry.ts';
export type { ErrorCode } from './errors.ts';
export { EntryError } from './errors.ts';
export type { Fault } from './fault.ts';
export type { EntryHooks } from './hooks.ts';
export type { Log } from './log.ts';
export { createLog } from './log.ts';
export type { Outcome, SignalName } from './outcome.ts';
export type { ApplyOverlayOptions, RevertOverlayOptions } from './overlay/apply.ts';
export { applyOverlay, revertOverlay } from './overlay/apply.ts';
export type { GivenLimits as OverlayLimits } from './overlay/limits.ts';
export type { OverlayReport } from './overlay/report.ts';
export type { RevertReport } from './overlay/revert.ts';
export type { DebugVariables, Directives, FstreeSource, StayAlive } from './parse.ts';
export { parseDebug } from './parse.ts';
export type { CommandLine, Plan, PlanInput } from './plan.ts';
export { makePlan } from './plan.ts';
export type { FaultReport } from './report/fault-report.ts';
