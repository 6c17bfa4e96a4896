import type { TrainConfig } from '../config/train-config.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readTrainingLines, type TrainingLine } from '../text/training-lines.ts';

/** The rows of one part of a train config's data; none where it names no such part. */
export const trainingLinesOf = async (
  part: 'train' | 'development',
  { data }: Pick<TrainConfig, 'data'>,
  access: DataAccess,
  limit?: number,
): Promise<readonly TrainingLine[]> => {
  const source = data[part];
  if (source === undefined) return [];
  const { splits, fields } = data;
  return readTrainingLines(source, { split: splits[part], fields, access, ...(limit !== undefined && { limit }) });
};
