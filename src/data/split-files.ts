import { parse } from 'yaml';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';

/** What a data set holds: the paths of its files, with forward slashes, and its README.md. */
export interface DataListing {
  /** For messages. */
  readonly name: string;
  readonly paths: readonly string[];
  readonly readme?: string;
}

export interface WantedSplit {
  readonly split: string;
  /** A subset (configuration), a folder, a file or a pattern; absent: the data set's default. */
  readonly path?: string | undefined;
}

const extensions = ['jsonl', 'ndjson', 'json', 'csv', 'tsv', 'parquet'];

/**
 * The files of a split, in order: those that the README's `configs` name (as the hub's own libraries read them), else `split.jsonl` (or
 * .json, .csv, .tsv, .parquet), `split-00000-of-00002.parquet` and so on, or all files of a folder called `split`, at the top or in
 * `data/`. Never guessed: what fits twice, or not at all, is an error that lists what there is.
 */
export const splitFiles = (listing: DataListing, { split, path }: WantedSplit): readonly string[] => {
  const { name, paths, readme } = listing;
  if (path !== undefined) {
    const matches = pathsLike(paths, path);
    if (matches.length > 0) return matches;
  }
  const subsets = readme === undefined ? [] : subsetsOf(readme);
  const subset = path === undefined ? defaultSubset(subsets, name) : subsets.find((candidate) => candidate.name === path);
  if (subset !== undefined) return declaredFiles(subset, split, listing);
  const found = namedFiles(paths, path, split);
  const kinds = new Set(found.map((file) => file.slice(file.lastIndexOf('.'))));
  if (found.length === 0) throw noSplit(listing, split, path, subsets);
  if (kinds.size > 1) throw new UserError(`${name} has the split "${split}" more than once: ${found.join(', ')}. Give the file itself.`);
  checkShards(found, name);
  return found;
};

const pathsLike = (paths: readonly string[], pattern: string): string[] => {
  const expression = globExpression(pattern);
  return paths.filter((path) => expression.test(path)).sort();
};

const globExpression = (pattern: string): RegExp =>
  new RegExp(`^${pattern.replace(/\*\*\/|\*\*|\*|\?|[.+^${}()|[\]\\]/g, (part) => globParts[part] ?? `\\${part}`)}$`);

const globParts: Readonly<Record<string, string>> = { '**/': '(?:.*/)?', '**': '.*', '*': '[^/]*', '?': '[^/]' };

const namedFiles = (paths: readonly string[], folder: string | undefined, split: string): string[] => {
  const base = folder === undefined ? '' : `${folder}/`;
  const places = [base, `${base}data/`];
  const forms = [`(?:-\\d{5}-of-\\d{5})?`, '/[^/]+'];
  for (const form of forms) {
    for (const place of places) {
      const expression = new RegExp(`^${escaped(place + split)}${form}\\.(?:${extensions.join('|')})$`);
      const found = paths.filter((path) => expression.test(path)).sort();
      if (found.length > 0) return found;
    }
  }
  return [];
};

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

const checkShards = (files: readonly string[], name: string): void => {
  const total = /-of-(\d{5})\.\w+$/.exec(files[0] ?? '')?.[1];
  if (total !== undefined && Number(total) !== files.length)
    throw new UserError(
      `${name} has ${files.length} of the ${Number(total)} files of this split: ${files.join(', ')}. Put the others beside them.`,
    );
};

interface Subset {
  readonly name: string;
  readonly isDefault: boolean;
  /** Patterns by split. */
  readonly patterns: ReadonlyMap<string, readonly string[]>;
}

const patternSchema = z.union([z.string().transform((text) => [text]), z.array(z.string())]);
const dataFilesSchema = z.union([
  patternSchema.transform((path) => [{ split: 'train', path }]),
  z.array(z.looseObject({ split: z.string(), path: patternSchema })),
]);
const cardSchema = z.looseObject({
  configs: z.array(z.looseObject({ config_name: z.string(), default: z.boolean().optional(), data_files: dataFilesSchema })),
});

/** The subsets that a README declares between its `---` lines; none where it declares none in a way that is understood. */
const subsetsOf = (readme: string): Subset[] => {
  const front = /^\uFEFF?---\r?\n(.*?)\r?\n---/s.exec(readme)?.[1];
  if (front === undefined) return [];
  let value: unknown;
  try {
    value = parse(front);
  } catch {
    return [];
  }
  const card = cardSchema.safeParse(value).data;
  return (card?.configs ?? []).map(({ config_name, data_files, ...rest }) => ({
    name: config_name,
    isDefault: rest.default ?? config_name === 'default',
    patterns: new Map(data_files.map(({ split, path }) => [split, path])),
  }));
};

const defaultSubset = (subsets: readonly Subset[], name: string): Subset | undefined => {
  const [only] = subsets;
  if (only === undefined || subsets.length === 1) return only;
  const found = subsets.find(({ isDefault }) => isDefault);
  if (found !== undefined) return found;
  throw new UserError(`${name} has the subsets ${subsets.map((subset) => subset.name).join(', ')}. Name one, as ${name}/${only.name}.`);
};

const declaredFiles = (subset: Subset, split: string, { name, paths }: DataListing): readonly string[] => {
  const patterns = subset.patterns.get(split);
  if (patterns === undefined) {
    const known = [...subset.patterns.keys()].join(', ');
    throw new UserError(`${name}: the subset ${subset.name} has no split "${split}". It has: ${known}. Name one of them as \`split\`.`);
  }
  const files = [...new Set(patterns.flatMap((pattern) => pathsLike(paths, pattern.replace(/^\.\//, ''))))];
  if (files.length > 0) return files;
  throw new UserError(`${name}: its README names ${patterns.join(', ')} for the split "${split}", and no such file is there.`);
};

const noSplit = ({ name, paths }: DataListing, split: string, path: string | undefined, subsets: readonly Subset[]): UserError => {
  const place = path === undefined ? name : `${name}/${path}`;
  const data = paths.filter((file) => extensions.some((extension) => file.endsWith(`.${extension}`)));
  const shown = data.slice(0, 12).join(', ') || 'no data files';
  const known = subsets.length === 0 ? '' : ` Its subsets: ${subsets.map((subset) => subset.name).join(', ')}.`;
  return new UserError(
    `${place} has no ${split}.jsonl (nor .json, .csv, .tsv, .parquet, or numbered parts of it), the split "${split}". ` +
      `It has: ${shown}${data.length > 12 ? ', …' : ''}.${known} Put it there, name another \`split\`, or give the file itself.`,
  );
};
