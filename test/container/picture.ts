/**
 * A terminal as an SVG: what was typed, and what came. Dark on any page, for it has a background of its own. Pure.
 */

export interface Typed {
  readonly command: string;
  readonly output: string;
}

const FONT_SIZE = 13;
const LINE_HEIGHT = 18;
/** Of the usual monospaced fonts; each line is told its length, so that another font keeps the columns. */
const COLUMN = FONT_SIZE * 0.6;
const MARGIN = 16;
const TITLE_HEIGHT = 28;

/** @param title for those who hear the page */
export function drawTerminal(session: readonly Typed[], title: string): string {
  const lines = session.flatMap(({ command, output }) => [
    `$ ${command}`,
    ...(output === '' ? [] : output.replace(/\n$/, '').split('\n')),
  ]);
  const width = Math.ceil(Math.max(...lines.map(({ length }) => length)) * COLUMN + 2 * MARGIN);
  const height = TITLE_HEIGHT + lines.length * LINE_HEIGHT + MARGIN;
  const buttons = [0, 1, 2].map(
    (index) => `<circle cx="${MARGIN + 4 + index * 16}" cy="${TITLE_HEIGHT / 2}" r="5" class="button"/>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escapeXml(title)}</title>
<style>
  text { font: ${FONT_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #d4d8de; white-space: pre; }
  .window { fill: #161b22; stroke: #57606a; }
  .button { fill: #57606a; }
  .typed { fill: #7ee787; font-weight: bold; }
  .ours { fill: #79c0ff; }
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8" class="window"/>
${buttons.join('\n')}
${lines.map(drawLine).join('')}</svg>
`;
}

function drawLine(line: string, index: number): string {
  if (line === '') return '';
  const kind = line.startsWith('$ ')
    ? ' class="typed"'
    : line.startsWith('ddbg-entry: ')
      ? ' class="ours"'
      : '';
  const y = TITLE_HEIGHT + (index + 1) * LINE_HEIGHT - 4;
  const length = (line.length * COLUMN).toFixed(1);
  return `<text x="${MARGIN}" y="${y}" textLength="${length}" xml:space="preserve"${kind}>${escapeXml(line)}</text>\n`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** The lines of such a picture, from the top. */
export function readTerminal(svg: string): readonly string[] {
  return [...svg.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, text = '']) =>
    text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&'),
  );
}
