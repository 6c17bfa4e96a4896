import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import type { TokenizerFiles } from '../weights/tensor-source.ts';
import type { AddedToken } from './added-tokens.ts';
import { exactPreTokenizer } from './pre-tokenizer.ts';
import type { TokenForm } from './spans.ts';

/** What is read of tokenizer.json by ourselves; the rest goes to the tokenizer library as it is. Other keys are the format's own. */
const tokenizerJsonSchema = z.looseObject({
  added_tokens: z
    .array(
      z.looseObject({
        id: z.number().int().nonnegative(),
        content: z.string().min(1),
        special: z.boolean().default(false),
        lstrip: z.boolean().default(false),
        rstrip: z.boolean().default(false),
        single_word: z.boolean().default(false),
      }),
    )
    .default([]),
  pre_tokenizer: z.looseObject({}).nullish(),
  decoder: z.unknown(),
});

const tokenName = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)]).nullish();

const tokenizerConfigSchema = z.looseObject({
  bos_token: tokenName,
  eos_token: tokenName,
  pad_token: tokenName,
  unk_token: tokenName,
  additional_special_tokens: z.array(tokenName).nullish(),
  clean_up_tokenization_spaces: z.boolean().nullish(),
  chat_template: z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]).nullish(),
});

/** The two files with what we rely on checked. */
export interface ParsedTokenizerFiles {
  /** For the tokenizer library, with its pre-tokenizer's splitting steps only. */
  readonly tokenizerJson: Record<string, unknown>;
  /** Whether words are to be spelt in GPT-2's byte alphabet before merging. */
  readonly spellsBytes: boolean;
  readonly tokenizerConfigJson: Record<string, unknown>;
  readonly addedTokens: readonly AddedToken[];
  readonly tokenForm: TokenForm;
  readonly cleanUpSpaces: boolean;
  /** The names of special tokens by role, as tokenizer_config.json gives them. */
  readonly named: {
    readonly bos: string | undefined;
    readonly eos: string | undefined;
    readonly pad: string | undefined;
    readonly unknown: string | undefined;
  };
  /** The chat template of tokenizer_config.json: the text, or of several the one called `default`. */
  readonly chatTemplate: string | undefined;
}

/** Checks what we rely on in a tokenizer's files. A UserError names the file and the field. */
export const parseTokenizerFiles = (files: TokenizerFiles): ParsedTokenizerFiles => {
  const json = parse(tokenizerJsonSchema, files.tokenizerJson, 'tokenizer.json');
  const config = parse(tokenizerConfigSchema, files.tokenizerConfigJson ?? {}, 'tokenizer_config.json');
  const preTokenizer = exactPreTokenizer(json.pre_tokenizer);
  const named = [config.bos_token, config.eos_token, config.pad_token, config.unk_token, ...(config.additional_special_tokens ?? [])];
  return {
    tokenizerJson: { ...json, pre_tokenizer: preTokenizer.splitting },
    spellsBytes: preTokenizer.spellsBytes,
    tokenizerConfigJson: config,
    // A token with a role is a special one even where tokenizer.json does not say so, as transformers has it.
    addedTokens: json.added_tokens.map((token) => ({
      id: token.id,
      content: token.content,
      special: token.special || named.includes(token.content),
      leftStrip: token.lstrip,
      rightStrip: token.rstrip,
      singleWord: token.single_word,
    })),
    tokenForm: JSON.stringify(json.decoder ?? null).includes('"ByteLevel"') ? 'byte-level' : 'sentencepiece',
    cleanUpSpaces: config.clean_up_tokenization_spaces ?? false,
    named: {
      bos: config.bos_token ?? undefined,
      eos: config.eos_token ?? undefined,
      pad: config.pad_token ?? undefined,
      unknown: config.unk_token ?? undefined,
    },
    chatTemplate: defaultTemplate(config.chat_template ?? undefined),
  };
};

const defaultTemplate = (templates: string | { name: string; template: string }[] | undefined): string | undefined => {
  if (!Array.isArray(templates)) return templates;
  const chosen = templates.find(({ name }) => name === 'default');
  if (chosen === undefined) {
    throw new UserError(
      `tokenizer_config.json: chat_template lists ${templates.map(({ name }) => `"${name}"`).join(', ')}, and none is called "default". ` +
        'Put the one to use into chat_template.jinja beside it.',
    );
  }
  return chosen.template;
};

const parse = <T>(schema: z.ZodType<T>, value: unknown, file: string): T => {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`).join('; ');
  throw new UserError(`${file} is not a tokenizer's file as expected. ${problems}. Fetch the model's files again.`);
};
