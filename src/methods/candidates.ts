import { randomFrom, shuffled } from '../base/random.ts';
import { listsOf, type SearchConfig } from '../config/search-config.ts';
import type { TrainingConfig } from '../config/training-config.ts';

/** What a search chooses: always learning rate and epochs, and what it varies of the distillation loss. */
export interface Settings {
  readonly learningRate: number;
  readonly epochs: number;
  readonly alpha?: number;
  readonly temperature?: number;
}

/** All combinations of a search's lists, or as many of them as it allows, drawn by a seed; in the order of the lists. */
export const candidatesOf = (search: SearchConfig, training: TrainingConfig, seed: number): Settings[] => {
  const lists = listsOf(search, training.loss.name);
  const { learningRate = [training.learningRate], epochs = [training.epochs], alpha, temperature } = lists;
  const all = learningRate.flatMap((rate) =>
    epochs.flatMap((epochCount) =>
      (alpha ?? [undefined]).flatMap((share) =>
        (temperature ?? [undefined]).map(
          (degree): Settings => ({
            learningRate: rate,
            epochs: epochCount,
            ...(share !== undefined && { alpha: share }),
            ...(degree !== undefined && { temperature: degree }),
          }),
        ),
      ),
    ),
  );
  const drawn = new Set(shuffled([...all.keys()], randomFrom(seed, 'candidates')).slice(0, search.candidates ?? all.length));
  return all.filter((_, index) => drawn.has(index));
};

/** A training under the settings that were chosen for it. */
export const withSettings = (training: TrainingConfig, { learningRate, epochs, alpha, temperature }: Settings): TrainingConfig => ({
  ...training,
  learningRate,
  epochs,
  loss:
    training.loss.name === 'distillation'
      ? { ...training.loss, ...(alpha !== undefined && { alpha }), ...(temperature !== undefined && { temperature }) }
      : training.loss,
});

/** `learning rate 0.002, 1 epoch, α 0.6, T 4` */
export const settingsText = ({ learningRate, epochs, alpha, temperature }: Settings): string =>
  [
    `learning rate ${learningRate}`,
    `${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}`,
    ...(alpha === undefined ? [] : [`α ${alpha}`]),
    ...(temperature === undefined ? [] : [`T ${temperature}`]),
  ].join(', ');

/** The same as a folder's name. */
export const settingsName = ({ learningRate, epochs, alpha, temperature }: Settings): string =>
  [
    `learning-rate-${learningRate}-epochs-${epochs}`,
    ...(alpha === undefined ? [] : [`alpha-${alpha}`]),
    ...(temperature === undefined ? [] : [`temperature-${temperature}`]),
  ].join('-');
