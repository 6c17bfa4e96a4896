import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { escapeHtml } from '../report/html.ts';

/** What may hold texts; weights and maps of numbers do not. */
const textExtensions: ReadonlySet<string> = new Set(['', '.json', '.jsonl', '.yaml', '.md', '.html', '.txt', '.svg', '.log', '.draft']);

/** Larger files are no texts of ours. */
const maximumBytes = 1 << 28;

/** The files below `folder` in which one of the texts stands, as it is, in JSON or in HTML, by their paths from `root`. */
export const filesHolding = async (root: string, texts: readonly string[], except: readonly string[], folder = root): Promise<string[]> => {
  // A page cuts long texts.
  const beginnings = texts.map((text) => text.slice(0, 200));
  const forms = beginnings.flatMap((text) => [...new Set([text, JSON.stringify(text).slice(1, -1), escapeHtml(text)])]);
  if (forms.length === 0) return [];
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const name = relative(root, path).split(sep).join('/');
    if (!entry.isFile() || except.includes(name) || !textExtensions.has(extname(entry.name))) continue;
    if ((await stat(path)).size > maximumBytes) continue;
    const content = await readFile(path, 'utf8');
    if (forms.some((form) => content.includes(form))) found.push(name);
  }
  return found.sort();
};
