/** A piece of HTML that is safe to put into a page: only this file makes them. */
export interface Html {
  readonly html: string;
}

export type HtmlValue = Html | string | number | readonly Html[];

/** HTML from a template; every value that is not Html is text and is escaped. */
export const html = (parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html => ({
  html: parts.map((part, index) => part + (index < values.length ? htmlOf(values[index] as HtmlValue) : '')).join(''),
});

/** For markup of this program's own making (a style sheet, a chart); never for text from data. */
export const trusted = (markup: string): Html => ({ html: markup });

const htmlOf = (value: HtmlValue): string => {
  if (typeof value === 'string' || typeof value === 'number') return escapeHtml(String(value));
  return 'html' in value ? value.html : value.map((piece) => piece.html).join('');
};

/** Text as it is, in content and in quoted attributes. Control characters that HTML does not allow become visible as U+FFFD. */
export const escapeHtml = (text: string): string =>
  text
    .toWellFormed()
    .replace(/(?![\t\n\r])\p{Cc}/gu, '\ufffd')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
