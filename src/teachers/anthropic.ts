import { anthropicBatches, anthropicBatchFormat } from './anthropic-batches.ts';
import { type AnthropicSettings, anthropicMessageBody, anthropicRateLimitOf, parseAnthropicMessage } from './anthropic-message.ts';
import type { BatchingTeacher, TeacherProfile } from './batches.ts';
import type { OmittableParameter } from './chat-completion.ts';
import { httpTeacher } from './http-teacher.ts';
import { connectTo, locationOf, type ProviderOptions, providerOf } from './provider-connection.ts';
import { parseBaseUrl } from './provider-keys.ts';

export interface AnthropicOptions extends Omit<ProviderOptions, 'baseUrl'> {
  /** Anthropic's own when absent: https://api.anthropic.com/v1. */
  readonly baseUrl?: string | undefined;
  /** Parameters that are not sent. Absent: `topP`, which current models refuse beside a temperature. There is no seed to send. */
  readonly omit?: readonly OmittableParameter[] | undefined;
}

const ownBaseUrl = 'https://api.anthropic.com/v1';

/** The version of the interface that this is written for. */
const version = '2023-06-01';

/** Anthropic's models by its messages and message batches. */
export const anthropicTeacher = (options: AnthropicOptions): BatchingTeacher => {
  const { baseUrl = ownBaseUrl, concurrency } = options;
  const connection = connectTo({ ...options, baseUrl }, (key) => ({
    'anthropic-version': version,
    ...(key !== undefined && { 'x-api-key': key }),
  }));
  const { settings, identity } = anthropicProfile(options);
  return httpTeacher({
    identity,
    connection,
    concurrency,
    dialect: {
      path: '/messages',
      body: (request) => anthropicMessageBody(request, settings),
      parse: parseAnthropicMessage,
      rateLimit: anthropicRateLimitOf,
    },
    batches: anthropicBatches(connection, anthropicBatchFormat(settings, connection.secrets)),
  });
};

/** How Anthropic is asked and who the teacher is, without asking it. */
export const anthropicProfile = (
  options: Omit<AnthropicOptions, 'environment'>,
): TeacherProfile & { readonly settings: AnthropicSettings } => {
  const { model, revision, omit = ['topP'] } = options;
  const url = parseBaseUrl(options.baseUrl ?? ownBaseUrl);
  const provider = providerOf(url);
  const settings = { model, omit };
  return {
    settings,
    identity: {
      kind: 'anthropic',
      model,
      ...(provider === undefined ? {} : { provider }),
      ...(revision === undefined ? {} : { revision }),
      ...(omit.length > 0 && { settings: { omit: [...omit].sort().join(' ') } }),
      location: locationOf(url),
    },
    batchFormat: anthropicBatchFormat(settings),
  };
};
