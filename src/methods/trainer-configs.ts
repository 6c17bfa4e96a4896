import { stringify } from 'yaml';
import type { StudentConfig } from '../config/student-config.ts';
import type { TrainingConfig } from '../config/training-config.ts';
import type { ResponseFormat } from '../responses/export-formats.ts';
import { parseHubReference } from '../weights/hub-reference.ts';

export interface TrainerSettings {
  /** Of the data, for LLaMA-Factory's list. */
  readonly name: string;
  readonly format: ResponseFormat;
  readonly student: StudentConfig;
  readonly training: TrainingConfig;
  readonly seed: number;
}

/** The configs with which other trainers do with exported answers what this run's config says, by file name. */
export const trainerConfigs = (settings: TrainerSettings): ReadonlyMap<string, string> =>
  new Map([...trlFiles(settings), ...llamaFactoryFiles(settings)]);

function* trlFiles({ format, student, training, seed }: TrainerSettings): Generator<[string, string]> {
  if (!format.isReadByTrl) return;
  const { fileName } = format;
  const { parameters } = student;
  const config = {
    model_name_or_path: modelOf(student),
    datasets: [{ path: fileName.endsWith('.parquet') ? 'parquet' : 'json', data_files: fileName, split: 'train' }],
    output_dir: 'trained',
    num_train_epochs: training.epochs,
    per_device_train_batch_size: training.rowsPerStep,
    learning_rate: training.learningRate,
    lr_scheduler_type: training.schedule === 'constant' ? 'constant_with_warmup' : training.schedule,
    warmup_steps: training.warmupShare,
    ...optimiserOf(training),
    max_grad_norm: training.maximumNorm ?? 0,
    max_length: training.maximumLength,
    seed,
    ...(parameters.kind === 'lora' && {
      use_peft: true,
      lora_r: parameters.rank,
      lora_alpha: parameters.alpha,
      lora_dropout: parameters.dropout,
      lora_target_modules: parameters.targets,
    }),
  };
  yield [
    'trl.yaml',
    `# In this folder: trl sft --config trl.yaml\n# Written for TRL 1.16. A prompt-completion export is learnt from in its answers alone, as retort does; of the others TRL also learns\n# the questions, unless \`assistant_only_loss: true\` is set, which needs a chat template that marks the assistant's turns.\n${yamlOf(config)}`,
  ];
}

function* llamaFactoryFiles({ name, format, student, training, seed }: TrainerSettings): Generator<[string, string]> {
  const { llamaFactory, fileName } = format;
  if (llamaFactory === undefined) return;
  yield ['dataset_info.json', `${JSON.stringify({ [name]: { file_name: fileName, ...llamaFactory } }, undefined, 2)}\n`];
  const { parameters } = student;
  const config = {
    model_name_or_path: modelOf(student),
    stage: 'sft',
    do_train: true,
    dataset_dir: '.',
    dataset: name,
    cutoff_len: training.maximumLength,
    finetuning_type: parameters.kind === 'lora' ? 'lora' : 'full',
    ...(parameters.kind === 'lora' && {
      lora_rank: parameters.rank,
      lora_alpha: parameters.alpha,
      lora_dropout: parameters.dropout,
      lora_target: parameters.targets.join(','),
    }),
    output_dir: 'trained',
    num_train_epochs: training.epochs,
    per_device_train_batch_size: training.rowsPerStep,
    learning_rate: training.learningRate,
    lr_scheduler_type: training.schedule === 'constant' ? 'constant_with_warmup' : training.schedule,
    warmup_ratio: training.warmupShare,
    ...optimiserOf(training),
    max_grad_norm: training.maximumNorm ?? 0,
    seed,
  };
  yield [
    'llama-factory.yaml',
    `# In this folder: llamafactory-cli train llama-factory.yaml\n# Written for LLaMA-Factory 0.9.5. The chat template is the model's own; name another with \`template\`.\n${yamlOf(config)}`,
  ];
}

const optimiserOf = ({ optimiser }: TrainingConfig): object =>
  optimiser.name === 'adamw'
    ? {
        optim: 'adamw_torch',
        adam_beta1: optimiser.beta1,
        adam_beta2: optimiser.beta2,
        adam_epsilon: optimiser.epsilon,
        weight_decay: optimiser.weightDecay,
      }
    : { optim: 'sgd', optim_args: `momentum=${optimiser.momentum}`, weight_decay: optimiser.weightDecay };

/** Python's YAML takes 1e-8 for a text, and 1.0e-8 for a number. */
const yamlOf = (config: object): string => stringify(config).replace(/(?<=: -?\d+)(?=e[-+]?\d+$)/gm, '.0');

/** As other programs name a model: a folder, or a repository on the hub. */
const modelOf = ({ model }: StudentConfig): string => (model.startsWith('hub:') ? parseHubReference(model)?.name : undefined) ?? model;
