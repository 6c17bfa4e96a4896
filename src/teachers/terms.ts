import type { TeacherIdentity } from './teacher.ts';

/** What is known of the terms under which a teacher's answers come. Not advice: the terms themselves decide, and they change. */
export interface TermsNote {
  readonly applies: (identity: TeacherIdentity) => boolean;
  readonly note: string;
}

const hostIs =
  (...hosts: readonly string[]) =>
  ({ provider = '' }: TeacherIdentity): boolean =>
    hosts.some((host) => provider === host || provider.startsWith(`${host}.`) || provider.endsWith(`.${host}`));

const modelIs =
  (pattern: RegExp) =>
  ({ model }: TeacherIdentity): boolean =>
    pattern.test(model);

/** As of the end of 2025, from the providers' public terms. */
const termsNotes: readonly TermsNote[] = [
  {
    applies: hostIs('api.openai.com', 'openai', 'openai.azure.com'),
    note: "OpenAI's terms restrict using output to develop models that compete with OpenAI.",
  },
  {
    applies: hostIs('api.anthropic.com', 'anthropic'),
    note: "Anthropic's terms restrict using output to train models that compete with Anthropic's.",
  },
  {
    applies: hostIs('generativelanguage.googleapis.com', 'google'),
    note: "Google's Gemini API terms restrict using the service to develop models that compete with it.",
  },
  { applies: hostIs('api.x.ai', 'xai'), note: "xAI's terms restrict using output to train models that compete with xAI's." },
  {
    applies: hostIs('api.mistral.ai', 'mistral'),
    note: "Mistral's terms restrict using output of its hosted models to train competing models, depending on the plan.",
  },
  {
    applies: hostIs('openrouter.ai', 'openrouter'),
    note: "OpenRouter passes on the terms of the model's maker; several of them restrict training on output.",
  },
  {
    applies: modelIs(/llama-?[34]/i),
    note: 'The Llama licences from 3.1 on allow training other models on output, and want "Llama" at the beginning of such a model\'s name; Llama 3.0 does not allow it.',
  },
];

/** What the user should have read before spending money on answers to train on; empty where nothing is known. */
export const termsFor = (identity: TeacherIdentity): string[] =>
  termsNotes.filter(({ applies }) => applies(identity)).map(({ note }) => note);
