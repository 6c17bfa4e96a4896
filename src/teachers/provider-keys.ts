import { UserError } from '../base/errors.ts';

/** Environment variables by name; `process.env` is one. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The variable whose key belongs to a host: it is sent there, and nowhere else unless a config names it for another host. */
const variableOfHost: Readonly<Record<string, string>> = {
  'api.openai.com': 'OPENAI_API_KEY',
  'api.anthropic.com': 'ANTHROPIC_API_KEY',
  'api.cerebras.ai': 'CEREBRAS_API_KEY',
  'api.deepseek.com': 'DEEPSEEK_API_KEY',
  'api.fireworks.ai': 'FIREWORKS_API_KEY',
  'api.groq.com': 'GROQ_API_KEY',
  'api.mistral.ai': 'MISTRAL_API_KEY',
  'api.together.xyz': 'TOGETHER_API_KEY',
  'api.x.ai': 'XAI_API_KEY',
  'generativelanguage.googleapis.com': 'GEMINI_API_KEY',
  'openrouter.ai': 'OPENROUTER_API_KEY',
  'router.huggingface.co': 'HF_TOKEN',
};

/**
 * The key for a base URL: from the variable that the config names, or from the one that belongs to the host, or none. Throws where a named
 * variable is empty, where a known provider's is, and where a key would travel in the clear.
 */
export const keyFor = (baseUrl: URL, apiKeyVariable: string | undefined, environment: Environment): string | undefined => {
  const variable = apiKeyVariable ?? variableOfHost[baseUrl.hostname];
  if (variable === undefined) return undefined;
  const key = environment[variable]?.trim();
  if (key === undefined || key === '')
    throw new UserError(
      `No key for ${baseUrl.host}: expected one in the environment variable ${variable}, which is ${key === undefined ? 'not set' : 'empty'}.`,
    );
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new UserError(`The key in ${variable} has blanks or other characters that cannot be sent. Set it anew.`);
  if (baseUrl.protocol === 'http:' && !isLoopback(baseUrl.hostname))
    throw new UserError(
      `${baseUrl.origin} is not encrypted: the key in ${variable} is not sent there. Use https, or a server without a key.`,
    );
  return key;
};

/** A base URL of a config. Credentials in it are refused: they would end up in files. */
export const parseBaseUrl = (text: string, path = 'baseUrl'): URL => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new UserError(`${path}: expected a URL such as https://api.openai.com/v1 or http://localhost:8000/v1.`);
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw new UserError(
      `${path}: expected a URL without user name, password or query. Put the key into an environment variable and name it as apiKeyVariable.`,
    );
  return url;
};

/** Whether a host name is this machine. */
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname.endsWith('.localhost') || /^127(\.\d{1,3}){3}$/.test(hostname) || hostname === '[::1]';
