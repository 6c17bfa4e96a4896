import { createHash } from 'node:crypto';
import { type Html, html, trusted } from './html.ts';
import { pageStyle } from './page-style.ts';
import type { ReportTable } from './sections.ts';

export interface ShellOptions {
  readonly title: string;
  /** Everything between the tags of `body`. */
  readonly body: Html;
  /** This program's own; absent: none may run. */
  readonly script?: string;
}

/**
 * A page in one file: no network, readable on paper and on a phone, in light and dark. Its policy allows its own style and script by their
 * hashes, and nothing else.
 */
export const pageShell = ({ title, body, script }: ShellOptions): string => {
  const style = pageStyle.trim();
  const ownScript = script?.trim();
  const sources = [
    "default-src 'none'",
    `style-src 'sha256-${hashOf(style)}'`,
    ...(ownScript === undefined ? [] : [`script-src 'sha256-${hashOf(ownScript)}'`]),
    "base-uri 'none'",
    "form-action 'none'",
  ];
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${sources.join('; ')}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${trusted(style)}</style>
</head>
<body>
${body}${
  ownScript === undefined
    ? html``
    : html`<script>${trusted(ownScript)}</script>
`
}</body>
</html>
`;
  return page.html;
};

const hashOf = (text: string): string => createHash('sha256').update(text).digest('base64');

/** Wider than a phone: the table scrolls by itself, with the keyboard too, and the page does not. */
export const tableOf = ({ columns, rows }: ReportTable, name: string): Html => {
  const classOf = (index: number): Html => (columns[index]?.align === 'right' ? html` class="number"` : html``);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${name}"><table>
<thead><tr>${columns.map((column, index) => html`<th scope="col"${classOf(index)}>${column.name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell, index) => html`<td${classOf(index)}>${cell}</td>`)}</tr>\n`)}</tbody></table></div>`;
};

/** No line ends within a number and what belongs to it: `p < 0.001`, `95 % interval`, `+4.2 points`. */
export const unbroken = (text: string): string =>
  text
    .replaceAll('p-values', 'p\u2011values')
    .replace(/p [<=] \d/g, (found) => found.replaceAll(' ', '\u00a0'))
    .replace(/(\d) (?=%|points|seeds|questions|nats)/g, '$1\u00a0');
