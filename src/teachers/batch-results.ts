import type { BatchFormat, BatchResult, BatchSource } from './batches.ts';
import { jsonOf, type ProviderConnection } from './provider-connection.ts';
import { excerptOf, redactor } from './redact.ts';
import { TeacherError } from './teacher-error.ts';

/**
 * The results in a file at the provider. One that is cut off, or a web page in its place, must not pass for answers that never came: those
 * would be bought again. So it throws, and is asked for again.
 */
export async function* batchResults(
  { id, resultCount }: BatchSource,
  path: string,
  format: BatchFormat,
  connection: ProviderConnection,
  signal: AbortSignal,
): AsyncGenerator<BatchResult> {
  const { where, secrets, hide, lines } = connection;
  let count = 0;
  for await (const line of lines({ method: 'GET', path }, signal)) {
    if (line.trim() === '') continue;
    const result = format.parseResult(jsonOf(hide(line)));
    if (result === undefined)
      throw new TeacherError(`${where} sent something else than results of ${id}: ${excerptOf(line, redactor(secrets))}.`, {
        retry: 'later',
      });
    count++;
    yield result;
  }
  if (count < resultCount) throw new TeacherError(`${where} sent ${count} of the ${resultCount} results of ${id}.`, { retry: 'later' });
}
