/**
 * The socket to the native init, when we run under it: records there, lines back. init/init.c says which.
 */
import { writeWhole } from '../log.ts';
import { OWN_FAILURE } from '../outcome.ts';

export interface Link {
  /** Each record ends with a NUL on its way, so none may hold one (no argument and no variable can). */
  send(...records: readonly string[]): void;
  /** The next line, its words. Undefined: the init is gone. */
  receive(): Promise<readonly string[] | undefined>;
}

export function openLink(descriptor: number): Link {
  const lines: string[] = [];
  let rest = '';
  let isOpen = true;
  let wake = (): void => {};

  let isListening = false;
  const listen = (): void => {
    isListening = true;
    // Not imported above: 2 ms, and until the command is started nothing is expected from there. Not import():
    // from CommonJS, which the bundle is, that starts the loader of ES modules (7 ms).
    const { Socket } = process.getBuiltinModule('node:net');
    const opened = new Socket({ fd: descriptor, readable: true, writable: false });
    opened.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts);
      wake();
    });
    opened.on('error', () => {}); // close follows
    opened.on('close', () => {
      isOpen = false;
      wake();
    });
  };

  return {
    send: (...records) => {
      const text = records.map((record) => `${record}\0`).join('');
      if (!writeWhole(descriptor, text)) process.exit(OWN_FAILURE); // the init is gone: nobody is left to work for
    },
    receive: async () => {
      if (!isListening) listen();
      while (lines.length === 0 && isOpen) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return lines.shift()?.split(' ');
    },
  };
}
