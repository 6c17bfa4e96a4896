import { parquetWriteBuffer } from 'hyparquet-writer';

/** A Parquet file of text columns, a row group for every `rowGroupSize` rows. */
export const parquetBytes = (columns: Readonly<Record<string, readonly (string | null)[]>>, rowGroupSize = 1000): Buffer =>
  Buffer.from(
    parquetWriteBuffer({
      columnData: Object.entries(columns).map(([name, data]) => ({ name, data: [...data], type: 'STRING' })),
      rowGroupSize,
    }),
  );
