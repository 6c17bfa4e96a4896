/** Takes credentials out of a text that is printed or written. */
export type Redact = (text: string) => string;

const mark = '[redacted]';

/** Pieces of a secret from this length on are taken out too: servers quote the beginning of a key that they refuse. */
const pieceLength = 8;

/** Shorter ones (a dummy that a local server wants) hide nothing and would blot out ordinary words. */
const shortestSecret = 4;

/** What looks like a credential, whoever it belongs to. */
const shapes: readonly [RegExp, string][] = [
  [/\b(Bearer|Basic)\s+[^\s"'<>,;]+/gi, `$1 ${mark}`],
  [/\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|glpat|nvapi|AIza|AKIA)[-_]?[A-Za-z0-9_-]{12,}/g, mark],
  [/\b((?:x-)?api[-_]?key|authorization|access[-_]?token|secret|password)(["']?\s*[:=]\s*["']?)[^\s"',;&<>}]{4,}/gi, `$1$2${mark}`],
  [/(\/\/[^/\s:@]+:)[^/\s@]+@/g, `$1${mark}@`],
];

/** A function that takes these secrets out of texts: whole, in pieces, URL-encoded and in base64, and whatever else looks like a credential. */
export const redactor = (secrets: readonly string[]): Redact => {
  const forms = secrets
    .filter((secret) => secret.length >= shortestSecret)
    .flatMap((secret) => [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64').replace(/=+$/, '')]);
  return (text) => shapes.reduce((result, [shape, replacement]) => result.replace(shape, replacement), withoutPieces(text, forms));
};

/** For answers, which must stay as they are but for a key that a server quotes whole. Dummies of local servers are ordinary words and stay. */
export const wholeSecretsOut = (secrets: readonly string[]): Redact => {
  const real = secrets.filter((secret) => secret.length >= 2 * pieceLength);
  return (text) => real.reduce((result, secret) => result.replaceAll(secret, mark), text);
};

/** Marks every character that lies in a piece which the text shares with a secret, then replaces each marked stretch at once. */
const withoutPieces = (text: string, secrets: readonly string[]): string => {
  const isSecret = new Uint8Array(text.length);
  for (const secret of secrets) {
    const length = Math.min(pieceLength, secret.length);
    for (let start = 0; start + length <= secret.length; start++) {
      const piece = secret.slice(start, start + length);
      for (let at = text.indexOf(piece); at >= 0; at = text.indexOf(piece, at + 1)) isSecret.fill(1, at, at + length);
    }
  }
  let result = '';
  for (let index = 0; index < text.length; index++) {
    if (isSecret[index] === 0) result += text.charAt(index);
    else if (index === 0 || isSecret[index - 1] === 0) result += mark;
  }
  return result;
};

/** The beginning of what a server said, on one line, for a message. */
export const excerptOf = (text: string, redact: Redact, maximumLength = 300): string => {
  const line = redact(text).replace(/\s+/g, ' ').trim();
  return line.length > maximumLength ? `${line.slice(0, maximumLength)}…` : line;
};
