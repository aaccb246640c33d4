/** A matrix of tests, one a cell, as a table for the end of the output. */
import { it } from 'vitest';

export class Matrix<Column extends string> {
  readonly #cells = new Map<string, string>();
  readonly #title: string;
  readonly #rows: readonly string[];
  readonly #columns: readonly Column[];

  constructor(title: string, rows: readonly { readonly name: string }[], columns: readonly Column[]) {
    this.#title = title;
    this.#rows = rows.map(({ name }) => name);
    this.#columns = columns;
  }

  /** `it`, for a cell: right when it has come to its end, or what it returns; else WRONG. */
  cell(row: string, column: Column, body: () => Promise<string | undefined>): void {
    it(column, async () => {
      this.#cells.set(`${row}|${column}`, 'WRONG');
      this.#cells.set(`${row}|${column}`, (await body()) ?? 'right');
    });
  }

  toString(): string {
    const widths = [this.#title, ...this.#rows].map(({ length }) => length);
    const values = (row: string) =>
      this.#columns.map((column) => this.#cells.get(`${row}|${column}`) ?? 'not run');
    const line = (name: string, columns: readonly string[]) =>
      [name.padEnd(Math.max(...widths)), ...columns.map((value) => value.padEnd(9))].join(' | ').trimEnd();
    return [line(this.#title, this.#columns), ...this.#rows.map((row) => line(row, values(row)))].join('\n');
  }
}
