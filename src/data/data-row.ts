/** One row of a data file: an object as a rule, but that is for its reader to check. */
export interface DataRow {
  /** File and line, row or item, counted from 1: what an error begins with. */
  readonly where: string;
  /** The line, row or item; in the second file of several it goes on from the first. */
  readonly number: number;
  readonly value: unknown;
}

/** A row without the cells that hold nothing: a table has every column in every row. */
export const withoutEmpty = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).filter(([, cell]) => cell !== null))
    : value;
