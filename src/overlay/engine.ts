/** What off must not pay, loaded late and as one piece. */
export { applyOverlays } from './overlay.ts';
export { revertOverlays } from './revert.ts';
export { recover } from './transaction.ts';
