import { nearestName, UserError } from '../base/errors.ts';

/** A row of data as an object, or an error that names the row. */
export const objectOf = (value: unknown, where: string): Readonly<Record<string, unknown>> => {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return Object.fromEntries(Object.entries(value));
  throw new UserError(
    `${where}: expected an object in braces, not ${value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value}.`,
  );
};

/** A text of a row that must be there and not be blank. Numbers count as their digits. */
export const stringField = (line: Readonly<Record<string, unknown>>, field: string, where: string): string => {
  const value = line[field];
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') {
    const near = nearestName(field, Object.keys(line));
    const known = `It has: ${Object.keys(line).join(', ') || 'nothing'}.`;
    throw new UserError(
      value === undefined
        ? `${where}: no "${field}". ${near === undefined ? known : `Did you mean "${near}"?`}`
        : value === null
          ? emptyMessage(field, where)
          : `${where}: "${field}" must be a text, not ${Array.isArray(value) ? 'a list' : typeof value}.`,
    );
  }
  if (value.trim().length === 0) throw new UserError(emptyMessage(field, where));
  return value;
};

const emptyMessage = (field: string, where: string): string => `${where}: "${field}" is empty. Complete or remove it.`;

/** Like `stringField`, and undefined where the row has no such field, or nothing in it: tables have every column in every row. */
export const optionalStringField = (line: Readonly<Record<string, unknown>>, field: string, where: string): string | undefined =>
  line[field] === undefined || line[field] === null ? undefined : stringField(line, field, where);
