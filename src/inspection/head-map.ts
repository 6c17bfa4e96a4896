import { UserError } from '../base/errors.ts';
import { escapeHtml } from '../report/html.ts';
import type { AttentionMaps } from './attention-measures.ts';

/** Both count from 0. */
export interface HeadPlace {
  readonly layer: number;
  readonly head: number;
}

/** How much each token of one text looks at each other, in one head. */
export interface HeadMap extends HeadPlace {
  readonly subject: string;
  readonly promptId: string;
  readonly length: number;
  /** [length, length]: rows are the tokens that look, columns those looked at. */
  readonly data: Float32Array;
  /** The text of each token, where it is known. */
  readonly tokens?: readonly string[];
}

/** One head's map out of its layer's. */
export const headMapOf = (
  { headCount, length, data }: AttentionMaps,
  { layer, head }: HeadPlace,
  about: Pick<HeadMap, 'subject' | 'promptId' | 'tokens'>,
): HeadMap => {
  if (head >= headCount) throw new UserError(`Layer ${layer} has heads 0 to ${headCount - 1}; there is no head ${head}.`);
  return { layer, head, length, data: data.subarray(head * length * length, (head + 1) * length * length), ...about };
};

/** Drawn shares: white is none, and each step darker is a row's mass of a tenth more; the first stands for 1 to 10 %. */
const shades = ['#e8f0f7', '#cfdfee', '#b3cce3', '#94b8d8', '#739fc9', '#5285b8', '#356aa3', '#1f4f8a', '#12386d', '#08224a'] as const;
const smallest = 0.01;
const cell = 10;
const margin = { top: 96, left: 120, right: 12, bottom: 40 };

/** The map as one SVG: a path for each shade, so that hundreds of tokens stay a small file; the names of tokens along both sides. */
export const renderHeadMap = (map: HeadMap): string => {
  const { length, data, layer, head, subject, promptId, tokens } = map;
  const paths = shades.map(() => '');
  for (let query = 0; query < length; query++) {
    for (let key = 0; key < length; ) {
      const shade = shadeOf(data[query * length + key] as number);
      let end = key + 1;
      while (end < length && shadeOf(data[query * length + end] as number) === shade) end++;
      if (shade >= 0) paths[shade] += `M${key} ${query}h${end - key}v1h${key - end}z`;
      key = end;
    }
  }
  const size = length * cell;
  const [width, height] = [margin.left + Math.max(size, 420) + margin.right, margin.top + size + margin.bottom];
  const title = `${subject}, layer ${layer}, head ${head}, on ${promptId}`;
  const description = `How much each of ${length} tokens (rows) looks at each token up to it (columns); a row sums to 1. Shares below 1 % are left white.`;
  const drawn = paths.flatMap((path, shade) => (path === '' ? [] : [`<path fill="${shades[shade]}" d="${path}"/>`]));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="8" fill="#1b1f24">
<title id="t">${escapeHtml(title)}</title><desc id="d">${escapeHtml(description)}</desc>
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text x="8" y="20" font-size="14">${escapeHtml(title)}</text>
<g transform="translate(${margin.left} ${margin.top})">
<g transform="scale(${cell})" shape-rendering="crispEdges">${drawn.join('\n')}</g>
<rect width="${size}" height="${size}" fill="none" stroke="#8c959f"/>
${labels(length, tokens)}
</g>
${legend(margin.top + size + 14)}
</svg>
`;
};

const shadeOf = (share: number): number => (share < smallest ? -1 : Math.min(shades.length - 1, Math.floor(share * shades.length)));

const labels = (length: number, tokens: readonly string[] | undefined): string =>
  Array.from({ length }, (_, index) => {
    const text = escapeHtml(tokens === undefined ? String(index) : shown(tokens[index] ?? ''));
    const middle = index * cell + cell / 2 + 3;
    return `<text x="-4" y="${middle}" text-anchor="end">${text}</text><text transform="translate(${middle} -4) rotate(-90)">${text}</text>`;
  }).join('\n');

/** A token's text with its spaces and line ends to be seen, cut to what the margin holds. */
const shown = (token: string): string => {
  const visible = token.replaceAll(' ', '␣').replaceAll('\n', '⏎').replaceAll('\t', '⇥');
  return visible.length <= 16 ? visible : `${[...visible].slice(0, 15).join('')}…`;
};

const legend = (top: number): string =>
  shades
    .map((shade, index) => {
      const from = index === 0 ? 1 : index * 10;
      const x = margin.left + index * 40;
      return `<rect x="${x}" y="${top}" width="40" height="8" fill="${shade}"/><text x="${x}" y="${top + 18}">${from} %</text>`;
    })
    .join('\n');
