import { type Document, isMap, isScalar, LineCounter, type Node, parse, parseDocument } from 'yaml';
import { messageOf, UserError } from '../base/errors.ts';
import { ConfigError, type LocatedProblem } from './problem.ts';

/** A config as text, with what the command line changes of it. */
export interface ConfigSource {
  readonly text: string;
  /** For messages. */
  readonly file: string;
  /** `training.epochs=2`: the value is YAML. They are checked like the rest. */
  readonly overrides?: readonly string[];
}

/** The text's value with the overrides in it, and where in the text a path stands. */
export interface ParsedText {
  readonly value: unknown;
  /** `gsm8k.yaml:12`, `--set training.epochs`, or the nearest place above a path that is not there. */
  readonly whereIs: (problem: LocatedProblem) => string;
}

/** Parses YAML, and JSON with it. Every syntax error is named with its line. */
export const parseConfigText = ({ text, file, overrides = [] }: ConfigSource): ParsedText => {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors; // those after the first mostly follow from it
  if (error !== undefined) {
    const { line } = lines.linePos(error.pos[0]);
    const needsQuotes = text.split('\n')[line - 1]?.includes('${') === true;
    const hint = needsQuotes ? '. Inside braces a text with ${…} needs quotes' : '';
    throw new ConfigError(file, [{ path: 'config', where: `${file}:${line}`, message: `not YAML: ${error.message}${hint}` }]);
  }
  if (!isMap(document.contents)) throw new UserError(`${file}: expected keys and values, such as \`name: my-run\`.`);
  const overridden = overrides.map((override) => {
    const { path, value } = parseOverride(override);
    try {
      document.setIn(path, document.createNode(value));
    } catch (error) {
      throw new UserError(`--set ${override}: there is no such place in ${file} (${messageOf(error)})`, { cause: error });
    }
    return path;
  });
  const lineOf = (node: Node): number | undefined => (node.range ? lines.linePos(node.range[0]).line : undefined);
  const whereIs = ({ path }: LocatedProblem): string => {
    const setBy = overridden.find((set) => set.length <= path.length && set.every((part, index) => String(path[index]) === part));
    if (setBy !== undefined) return `--set ${setBy.join('.')}`;
    const parts = path.filter((part) => typeof part !== 'symbol');
    for (let depth = parts.length; depth >= 0; depth--) {
      const above = document.getIn(parts.slice(0, depth - 1), true);
      const key = parts[depth - 1];
      // the key's own line: a value that is a block begins on the next one
      const pair =
        depth > 0 && isMap(above) ? above.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key)) : undefined;
      const node = pair?.key ?? document.getIn(parts.slice(0, depth), true);
      const line = isNode(node) ? lineOf(node) : undefined;
      if (line !== undefined) return `${file}:${line}`;
    }
    return file;
  };
  return { value: valueOf(document, file), whereIs };
};

/** An alias without its anchor is noticed only here. */
const valueOf = (document: Document, file: string): unknown => {
  try {
    return document.toJS();
  } catch (error) {
    throw new UserError(`${file}: not YAML: ${messageOf(error)}`, { cause: error });
  }
};

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'range' in value;

/** `training.epochs=2` or `seeds=[0,1]`. */
const parseOverride = (text: string): { readonly path: readonly string[]; readonly value: unknown } => {
  const match = /^\s*([\w.-]+)\s*=(.*)$/s.exec(text);
  if (match?.[1] === undefined) throw new UserError(`--set ${text}: expected KEY=VALUE, such as training.epochs=2.`);
  try {
    return { path: match[1].split('.'), value: parse(match[2] ?? '') };
  } catch (error) {
    throw new UserError(`--set ${text}: the value is not YAML (${messageOf(error)})`, { cause: error });
  }
};
