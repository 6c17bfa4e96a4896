import { createHash } from 'node:crypto';
import type { Json } from './manifest.ts';

/** JSON with sorted keys: the same text for the same value, whatever order it was written in. */
export const canonicalJson = (value: Json): string => {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(',')}}`;
};

/** SHA-256 of the canonical JSON, in hexadecimal. */
export const hashOf = (value: Json): string => createHash('sha256').update(canonicalJson(value)).digest('hex');

export interface ConfigDifference {
  /** `students[0].lora.rank`; '' for the whole. */
  readonly path: string;
  /** undefined: not there. */
  readonly before: Json | undefined;
  readonly now: Json | undefined;
}

/** Every leaf in which two configs differ, in the order of the paths. */
export const configDifferences = (before: Json | undefined, now: Json | undefined, path = ''): ConfigDifference[] => {
  if (Array.isArray(before) && Array.isArray(now)) {
    const length = Math.max(before.length, now.length);
    return Array.from({ length }, (_, index) => configDifferences(before[index], now[index], `${path}[${index}]`)).flat();
  }
  if (isObject(before) && isObject(now)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort();
    return keys.flatMap((key) => configDifferences(before[key], now[key], path === '' ? key : `${path}.${key}`));
  }
  if (before !== undefined && now !== undefined && canonicalJson(before) === canonicalJson(now)) return [];
  return before === now ? [] : [{ path, before, now }];
};

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** One line a difference, for people. */
export const describeDifferences = (differences: readonly ConfigDifference[], limit = 12): string =>
  [
    ...differences
      .slice(0, limit)
      .map(({ path, before, now }) => `  ${path === '' ? 'config' : path}: ${show(before)} in the run, ${show(now)} now`),
    ...(differences.length > limit ? [`  and ${differences.length - limit} more`] : []),
  ].join('\n');

const show = (value: Json | undefined): string => {
  if (value === undefined) return 'absent';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
};
