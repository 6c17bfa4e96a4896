import { UserError } from '../base/errors.ts';

const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];
const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/** The `strftime` directives that chat templates use, for midnight of a day, in English (as Python writes them in its C locale). */
const directives = (isoDate: string): Record<string, string> => {
  const parts = /^(\d{4})-(\d{2})-(\d{2})$/.exec(isoDate);
  const day = new Date(`${isoDate}T00:00:00Z`);
  if (parts === null || Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== isoDate) {
    throw new UserError(`The date of a chat template must be a day like 2024-07-26, not "${isoDate}".`);
  }
  const [, year = '', month = '', dayOfMonth = ''] = parts;
  const monthName = months[Number(month) - 1] ?? '';
  const dayName = days[day.getUTCDay()] ?? '';
  const dayOfYear = (day.getTime() - Date.UTC(Number(year), 0, 1)) / 86_400_000 + 1;
  return {
    '%Y': year,
    '%y': year.slice(2),
    '%m': month,
    '%-m': String(Number(month)),
    '%d': dayOfMonth,
    '%-d': String(Number(dayOfMonth)),
    '%e': String(Number(dayOfMonth)).padStart(2),
    '%b': monthName.slice(0, 3),
    '%B': monthName,
    '%a': dayName.slice(0, 3),
    '%A': dayName,
    '%j': String(dayOfYear).padStart(3, '0'),
    '%F': isoDate,
    '%H': '00',
    '%I': '12',
    '%M': '00',
    '%S': '00',
    '%p': 'AM',
    '%%': '%',
  };
};

/** `26 Jul 2024`, as Llama 3's template writes its `date_string`. */
export const dateString = (isoDate: string): string => {
  const of = directives(isoDate);
  return `${of['%d']} ${of['%b']} ${of['%Y']}`;
};

/** A Jinja macro `strftime_now(format)` that always tells the given day: every directive is replaced in turn. */
export const formatDateMacro = (isoDate: string): string => {
  const replacements = Object.entries(directives(isoDate)).map(([directive, value]) => ` | replace('${directive}', '${value}')`);
  return `{% macro strftime_now(format) %}{{ format${replacements.join('')} }}{% endmacro %}`;
};
