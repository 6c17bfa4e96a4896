import { AISDKError, APICallError, InvalidResponseDataError, type LanguageModel } from 'ai';
import { messageOf, UserError } from '../base/errors.ts';
import { type OmittableParameter, rateLimitOf } from './chat-completion.ts';
import { startDeadline } from './deadline.ts';
import { isContentFilter, type ProviderFailure, teacherErrorOf } from './provider-failure.ts';
import { separateReasoning } from './reasoning.ts';
import { excerptOf, type Redact, redactor, wholeSecretsOut } from './redact.ts';
import type { FinishReason, Teacher, TeacherAnswer, TeacherIdentity, TeacherRequest, Usage } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

export interface AiSdkTeacherOptions {
  /** What is known of the model beyond its name: provider, revision. */
  readonly identity?: Partial<TeacherIdentity>;
  /** Requests under way at once; 8 when absent. */
  readonly concurrency?: number;
  /** For one whole answer; ten minutes when absent. */
  readonly timeoutMs?: number;
  /** Parameters that are not sent, since this model refuses them. */
  readonly omit?: readonly OmittableParameter[];
  /** Handed on to the provider as the AI SDK defines it. */
  readonly providerOptions?: Parameters<OlderModel['doGenerate']>[0]['providerOptions'];
  /** Taken out of errors and answers, should a server quote them; what looks like a credential is taken out of errors in any case. */
  readonly secrets?: readonly string[];
  /** Milliseconds since 1970, for a Retry-After that names a date. */
  readonly now?: () => number;
  readonly release?: () => Promise<void>;
}

/** The AI SDK's current interface of a language model, and the one before it, which many providers still have. */
type Model = Extract<LanguageModel, { specificationVersion: 'v3' }>;
type OlderModel = Extract<LanguageModel, { specificationVersion: 'v2' }>;
type Generated = Awaited<ReturnType<Model['doGenerate']>>;
type OlderGenerated = Awaited<ReturnType<OlderModel['doGenerate']>>;

/**
 * Any language model of the AI SDK as a teacher: `aiSdkTeacher(anthropic('claude-…'))`. It asks once for each request; when to ask again is
 * the collector's business, which can go on after a kill.
 */
export const aiSdkTeacher = (model: LanguageModel, options: AiSdkTeacherOptions = {}): Teacher => {
  if (typeof model === 'string')
    throw new UserError(
      `Expected a language model of the AI SDK, came the name ${JSON.stringify(model)}, which would go through a gateway. Make the model with its provider.`,
    );
  const { omit = [], timeoutMs = 600_000, secrets = [], now = () => Date.now(), providerOptions, release } = options;
  const redact = redactor(secrets);
  const settings = omit.length === 0 ? {} : { settings: { omit: [...omit].sort().join(' ') } };
  const identity: TeacherIdentity = { kind: 'ai-sdk', provider: model.provider, model: model.modelId, ...settings, ...options.identity };
  const where = `${identity.model} at ${identity.location ?? identity.provider ?? 'its provider'}`;

  const generate = async (request: TeacherRequest): Promise<TeacherAnswer> => {
    const deadline = startDeadline(timeoutMs, request.signal);
    try {
      const callOptions = { ...samplingOptions(request, omit), abortSignal: deadline.signal, ...(providerOptions && { providerOptions }) };
      const generated =
        model.specificationVersion === 'v3' ? await model.doGenerate(callOptions) : newerForm(await model.doGenerate(callOptions));
      return answerOf(generated, where, secrets);
    } catch (thrown) {
      if (thrown instanceof TeacherError) throw thrown;
      request.signal?.throwIfAborted();
      if (deadline.isOver()) throw new TeacherError(`${where} did not answer within ${timeoutMs / 1000} s.`, { retry: 'later' });
      const failure = failureOf(thrown);
      if (failure === undefined) throw unknownFailure(thrown, where, redact);
      if (isContentFilter(failure)) return { text: '', finishReason: 'content-filter' };
      throw teacherErrorOf(failure, where, redact, now());
    } finally {
      deadline.end();
    }
  };
  return { identity, concurrency: options.concurrency ?? 8, generate, release: release ?? (() => Promise.resolve()) };
};

/** In the form that both interfaces take. */
const samplingOptions = ({ messages, sampling }: TeacherRequest, omit: readonly OmittableParameter[]) => ({
  prompt: messages.map(({ role, content }) =>
    role === 'system' ? { role, content } : { role, content: [{ type: 'text' as const, text: content }] },
  ),
  maxOutputTokens: sampling.maximumTokens,
  ...(omit.includes('temperature') ? {} : { temperature: sampling.temperature }),
  // 1 is every provider's default, and some refuse it beside a temperature.
  ...(omit.includes('topP') || sampling.topP === 1 ? {} : { topP: sampling.topP }),
  ...(omit.includes('seed') ? {} : { seed: sampling.seed }),
});

/** What is read of an answer, in either interface. */
type GeneratedAnswer = Pick<Generated, 'finishReason' | 'usage' | 'response'> & {
  readonly content: readonly (Generated['content'][number] | OlderGenerated['content'][number])[];
};

const newerForm = ({ content, finishReason, usage, response }: OlderGenerated): GeneratedAnswer => ({
  content,
  finishReason: { unified: finishReason === 'unknown' ? 'other' : finishReason, raw: finishReason },
  usage: {
    inputTokens: { total: usage.inputTokens, noCache: undefined, cacheRead: usage.cachedInputTokens, cacheWrite: undefined },
    outputTokens: { total: usage.outputTokens, text: undefined, reasoning: usage.reasoningTokens },
  },
  ...(response && { response }),
});

const finishReasons: Record<Generated['finishReason']['unified'], FinishReason> = {
  stop: 'stop',
  length: 'length',
  'content-filter': 'content-filter',
  'tool-calls': 'other',
  error: 'other',
  other: 'other',
};

const answerOf = (generated: GeneratedAnswer, where: string, secrets: readonly string[]): TeacherAnswer => {
  const hide = wholeSecretsOut(secrets);
  const textOf = (type: 'text' | 'reasoning'): string =>
    hide(generated.content.flatMap((part) => (part.type === type ? [part.text] : [])).join(''));
  const separated = separateReasoning(textOf('text'));
  const reasoning = textOf('reasoning') || separated.reasoning;
  const finishReason = finishReasons[generated.finishReason.unified];
  const usage = usageOf(generated.usage);
  if (separated.text.trim() === '' && finishReason !== 'length' && finishReason !== 'content-filter')
    throw new TeacherError(`${where} sent an empty answer.`, { retry: 'later' }, { status: 200, ...(usage && { usage }) });
  const rateLimit = rateLimitOf(generated.response?.headers ?? {});
  const reportedModel = generated.response?.modelId;
  return {
    text: separated.text,
    ...(reasoning === undefined ? {} : { reasoning }),
    finishReason,
    ...(usage && { usage }),
    ...(reportedModel === undefined ? {} : { reportedModel: hide(reportedModel) }),
    ...(rateLimit && { rateLimit }),
  };
};

/** Undefined where the provider did not count: 0 would look as if it had cost nothing. */
const usageOf = ({ inputTokens, outputTokens }: Generated['usage']): Usage | undefined => {
  if (inputTokens.total === undefined || outputTokens.total === undefined) return undefined;
  return {
    promptTokens: inputTokens.total,
    completionTokens: outputTokens.total,
    ...(inputTokens.cacheRead ? { cachedPromptTokens: inputTokens.cacheRead } : {}),
    ...(outputTokens.reasoning ? { reasoningTokens: outputTokens.reasoning } : {}),
  };
};

/** What an HTTP client's error says about the request; undefined for errors of another kind. */
const failureOf = (thrown: unknown): ProviderFailure | undefined => {
  if (APICallError.isInstance(thrown)) {
    const { statusCode, responseHeaders, responseBody, message } = thrown;
    return {
      message,
      ...(statusCode === undefined ? {} : { status: statusCode, body: responseBody ?? '' }),
      ...(responseHeaders && { headers: responseHeaders }),
    };
  }
  if (InvalidResponseDataError.isInstance(thrown)) return { message: thrown.message, status: 200, body: JSON.stringify(thrown.data) ?? '' };
  // A connection that was refused or broken off: system errors have codes.
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') return { message: messageOf(thrown) || thrown.code };
  return undefined;
};

/** The SDK's own refusals (no key, a message it cannot express) are the user's to mend; anything else is a bug and goes on as it came. */
const unknownFailure = (thrown: unknown, where: string, redact: Redact): unknown =>
  AISDKError.isInstance(thrown)
    ? new TeacherError(`${where}: ${excerptOf(thrown.message, redact)}`, { retry: 'never', scope: 'all' })
    : thrown;
