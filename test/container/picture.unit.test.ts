/** docs/picture.svg, where there is no engine to play it again: picture.test.ts does that. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { judgeOutcome } from '../../src/fault.ts';
import { parkBanner } from '../../src/report/banner.ts';
import { drawTerminal, readTerminal } from './picture.ts';

const svg = readFileSync(fileURLToPath(new URL('../../docs/picture.svg', import.meta.url)), 'utf8');

test('it is XML that a page can show, and small', () => {
  expect(unclosed(svg)).toEqual([]);
  expect(unclosed('<svg><text a="<">x</svg>')).not.toEqual([]);
  expect(svg.length).toBeLessThan(60_000);
  const told = [{ command: 'a <b> && "c"', output: "<&>\n\n'x'\n" }];
  expect(unclosed(drawTerminal(told, '<&'))).toEqual([]);
  expect(readTerminal(drawTerminal(told, '<&'))).toEqual(['$ a <b> && "c"', '<&>', "'x'"]);
});

test('its banner is what we say', () => {
  const banner = parkBanner({
    fault: judgeOutcome({ kind: 'exited', status: 7 }, undefined),
    cause: 'why: it exited with status 7; its last words: shop: no port to open',
    command: '/app/bin/shop',
    commandPid: 13,
    durationMs: 60,
    container: { evidence: '/.dockerenv', engine: 'docker', id: '3f2a9c41d7e0', pod: undefined },
    ownPid: 1,
    shell: 'bash',
    hasOwnShell: false,
    tool: 'ddbg',
    stateDirectory: '/run/ddbg',
    limitMs: undefined,
    now: new Date(0),
    isReachedByStops: true,
  });
  const shown = readTerminal(svg).filter((line) => line.startsWith('ddbg-entry: '));
  expect(shown).toEqual(banner.map((line) => `ddbg-entry: ${line}`));
});

/** The elements that nobody closes, and whatever is neither a tag, nor text, nor one of XML's own entities. */
function unclosed(xml: string): readonly string[] {
  const open: string[] = [];
  const attribute = String.raw`\s+[\w:]+="[^"<&]*"`;
  const token = new RegExp(`<(/?)(\\w+)((?:${attribute})*)\\s*(/?)>|&(?:amp|lt|gt);|[^<&]`, 'g');
  const rest = xml.replaceAll(token, (_, close: string, name: string | undefined, __, empty: string) => {
    if (name === undefined || empty === '/') return '';
    if (close === '') open.push(name);
    else if (open.pop() !== name) open.push(`/${name}`);
    return '';
  });
  return rest === '' ? open : [...open, rest];
}
