import type { RunSummary } from '../evaluation/summary.ts';
import { type ReportSection, type ReportTable, reportSections } from './sections.ts';

/** For the terminal: aligned plain text, no line wider than `width` columns. The first line is the answer. */
export const renderTerminal = (summary: RunSummary, width = 120): string =>
  [
    ...wrap(printable(summary.headline), width),
    ...reportSections(summary, 'brief').flatMap((section) => ['', ...terminalSection(section, width)]),
    '',
  ].join('\n');

/** GitHub-flavoured Markdown. The first line is the answer. */
export const renderMarkdown = (summary: RunSummary): string =>
  [markdownText(summary.headline), ...reportSections(summary, 'full').map(markdownSection)].join('\n\n').concat('\n');

/** The summary itself, for programs. */
export const renderJson = (summary: RunSummary): string => `${JSON.stringify(summary, null, 2)}\n`;

const terminalSection = ({ heading, notes, table, items }: ReportSection, width: number): string[] => [
  heading,
  ...notes.flatMap((note) => wrap(printable(note), width - 2).map((line) => `  ${line}`)),
  ...(table === undefined ? [] : tableLines(table, width - 2).map((line) => `  ${line}`)),
  ...(items ?? []).flatMap((item) => wrap(printable(item), width - 4).map((line, index) => `${index === 0 ? '  - ' : '    '}${line}`)),
];

/** Columns two apart. Where the table is too wide, the first column, which holds names, gives way. */
export const tableLines = ({ columns, rows }: ReportTable, width: number): string[] => {
  const cells = [columns.map(({ name }) => name), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => (row[index] ?? '').length)));
  const others = widths.slice(1).reduce((sum, column) => sum + column + 2, 0);
  widths[0] = Math.min(widths[0] ?? 0, Math.max(8, width - others));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, index) => {
        const columnWidth = widths[index] ?? 0;
        const text = cell.length > columnWidth ? `${cell.slice(0, columnWidth - 1)}…` : cell;
        return columns[index]?.align === 'right' ? text.padStart(columnWidth) : text.padEnd(columnWidth);
      })
      .join('  ')
      .trimEnd();
  return [line(cells[0] ?? []), widths.map((columnWidth) => '-'.repeat(columnWidth)).join('  '), ...cells.slice(1).map(line)];
};

/** Breaks at spaces; a longer word gets a line of its own. */
export const wrap = (text: string, width: number): string[] => {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
};

/** Names and messages may come from data: no control characters reach the terminal. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ');

const markdownSection = ({ heading, notes, table, items }: ReportSection): string =>
  [
    `## ${heading}`,
    ...notes.map(markdownText),
    ...(table === undefined ? [] : [markdownTable(table)]),
    ...(items === undefined || items.length === 0 ? [] : [items.map((item) => `- ${markdownText(item)}`).join('\n')]),
  ].join('\n\n');

const markdownTable = ({ columns, rows }: ReportTable): string =>
  [
    `| ${columns.map(({ name }) => markdownText(name)).join(' | ')} |`,
    `| ${columns.map(({ align }) => (align === 'right' ? '---:' : '---')).join(' | ')} |`,
    ...rows.map((row) => `| ${row.map(markdownText).join(' | ')} |`),
  ].join('\n');

/** Text that Markdown must not take for its own marks, or for HTML. */
const markdownText = (text: string): string => printable(text).replace(/[\\`*_[\]|<>#]/g, (mark) => `\\${mark}`);
