import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { TeacherIdentity } from './teacher.ts';

/** US dollars per million tokens. */
export interface Prices {
  readonly inputPerMillion: number;
  readonly outputPerMillion: number;
  /** Of prompt tokens that the provider had cached; those cost as much as others when absent. */
  readonly cachedInputPerMillion?: number | undefined;
}

/** Prices from a table, and which. */
export interface ListedPrices extends Prices {
  /** The table's name and version, to be shown beside whatever is computed from them. */
  readonly source: string;
}

/**
 * The list prices of a remote teacher from the table that the package @pydantic/genai-prices ships; undefined where it does not know the model.
 * Nothing is fetched. Prices that grow with the length of a prompt are given for short ones.
 */
export const listedPrices = async (identity: TeacherIdentity): Promise<ListedPrices | undefined> => {
  const { provider, model, location } = identity;
  if (provider === undefined) return undefined;
  // Loaded when needed: the table is close to a megabyte.
  const { calcPrice } = await import('@pydantic/genai-prices');
  const byUrl = location === undefined ? null : calcPrice({ input_tokens: 1, output_tokens: 1 }, model, { providerApiUrl: location });
  const found = byUrl ?? calcPrice({ input_tokens: 1, output_tokens: 1 }, model, { providerId: provider.split('.')[0] ?? provider });
  if (found === null) return undefined;
  const { input_mtok: input, output_mtok: output, cache_read_mtok: cached } = found.model_price;
  const [inputPerMillion, outputPerMillion, cachedInputPerMillion] = [priceOf(input), priceOf(output), priceOf(cached)];
  if (inputPerMillion === undefined || outputPerMillion === undefined) return undefined;
  return {
    inputPerMillion,
    outputPerMillion,
    ...(cachedInputPerMillion === undefined ? {} : { cachedInputPerMillion }),
    source: `@pydantic/genai-prices ${await tableVersion()}`,
  };
};

const priceOf = (price: unknown): number | undefined => {
  if (typeof price === 'number') return price;
  const tiered = z.object({ base: z.number() }).safeParse(price);
  return tiered.success ? tiered.data.base : undefined;
};

const tableVersion = async (): Promise<string> => {
  const file = new URL('../package.json', import.meta.resolve('@pydantic/genai-prices'));
  return z.object({ version: z.string() }).parse(JSON.parse(await readFile(file, 'utf8'))).version;
};
