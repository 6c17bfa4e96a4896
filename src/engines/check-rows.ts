import { UserError } from '../base/errors.ts';
import type { Decoder } from '../models/decoder.ts';
import type { LossSpecification, SampleOptions, SampleRequest, ScoreRequest, TokenRow } from './engine.ts';
import { needsTeacherLogits } from './losses.ts';

/** Refuses a row that would train on nonsense: nothing to predict, tokens that the model does not have, more of them than it can hold. */
export const checkRow = (row: TokenRow, index: number, decoder: Decoder, loss: LossSpecification): void => {
  const where = `row ${index}`;
  checkTokens(row.tokens, where, decoder);
  if (row.weights.length !== row.tokens.length) {
    throw new UserError(`${where}: ${row.tokens.length} tokens, but ${row.weights.length} weights; there must be a weight for each token`);
  }
  if (row.weights[0] !== 0)
    throw new UserError(`${where}: the first token has weight ${row.weights[0]}; nothing predicts it, so it must be 0`);
  if (row.weights.some((weight) => !Number.isFinite(weight) || weight < 0)) {
    throw new UserError(`${where}: a weight is negative or no number`);
  }
  const lossCount = row.weights.filter((weight) => weight !== 0).length;
  if (lossCount === 0)
    throw new UserError(`${where}: every weight is 0, so there is nothing to learn from it. Is the answer empty or cut off?`);
  if (needsTeacherLogits(loss) && row.teacherLogits?.length !== lossCount * decoder.vocabularySize) {
    const came = row.teacherLogits === undefined ? 'none' : `${row.teacherLogits.length} numbers`;
    throw new UserError(
      `${where}: the distillation loss wants teacher logits for its ${lossCount} weighted tokens, ${lossCount} × ${decoder.vocabularySize}; it has ${came}`,
    );
  }
};

const checkTokens = (tokens: readonly number[], where: string, decoder: Decoder): void => {
  if (tokens.length === 0) throw new UserError(`${where}: no tokens`);
  if (tokens.length > decoder.contextLength) {
    throw new UserError(`${where}: ${tokens.length} tokens, more than the ${decoder.contextLength} that the model was made for`);
  }
  const foreign = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= decoder.vocabularySize);
  if (foreign !== undefined) {
    throw new UserError(
      `${where}: token ${foreign} is not in the model's vocabulary of ${decoder.vocabularySize}. Does the tokenizer belong to these weights?`,
    );
  }
};

export const checkScoreRequest = ({ tokens, logitPositions = [] }: ScoreRequest, index: number, decoder: Decoder): void => {
  checkTokens(tokens, `sequence ${index}`, decoder);
  const outside = logitPositions.find((position) => !Number.isInteger(position) || position < 0 || position >= tokens.length);
  if (outside !== undefined) {
    throw new UserError(
      `sequence ${index}: logits at position ${outside} of a sequence of ${tokens.length} tokens; positions count from 0`,
    );
  }
};

export const checkSampleRequests = (requests: readonly SampleRequest[], options: SampleOptions, decoder: Decoder): void => {
  if (!Number.isInteger(options.maximumTokens) || options.maximumTokens < 1) {
    throw new UserError(`maximumTokens must be a whole number from 1, not ${options.maximumTokens}`);
  }
  if (!(options.temperature >= 0)) throw new UserError(`temperature must be 0 (greedy) or more, not ${options.temperature}`);
  if (!(options.topP > 0 && options.topP <= 1)) throw new UserError(`topP must lie above 0 and be at most 1, not ${options.topP}`);
  const { batchSize = 1 } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) throw new UserError(`batchSize must be a whole number from 1, not ${batchSize}`);
  requests.forEach(({ tokens }, index) => {
    checkTokens(tokens, `prompt ${index}`, decoder);
    if (tokens.length + options.maximumTokens > decoder.contextLength) {
      throw new UserError(
        `prompt ${index}: ${tokens.length} tokens and up to ${options.maximumTokens} new ones are more than the ${decoder.contextLength} that the model was made for`,
      );
    }
  });
};
