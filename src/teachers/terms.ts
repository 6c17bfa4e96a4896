import type { TeacherIdentity } from './teacher.ts';

/** What is known of the terms under which a teacher's answers come. Not advice: the terms themselves decide, and they change. */
export interface TermsNote {
  readonly applies: (identity: TeacherIdentity) => boolean;
  readonly note: string;
}

/** A host of this domain, or a provider of the AI SDK by its name (`openai`, `openai.chat`). */
const hostIs =
  (domain: string, sdkName: string) =>
  ({ provider = '' }: TeacherIdentity): boolean =>
    provider === domain || provider.endsWith(`.${domain}`) || (provider.split('.').length <= 2 && provider.split('.')[0] === sdkName);

const modelIs =
  (pattern: RegExp) =>
  ({ model }: TeacherIdentity): boolean =>
    pattern.test(model);

/** As of the end of 2025, from the providers' public terms. */
const termsNotes: readonly TermsNote[] = [
  {
    applies: (identity) => hostIs('api.openai.com', 'openai')(identity) || hostIs('openai.azure.com', 'azure')(identity),
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
