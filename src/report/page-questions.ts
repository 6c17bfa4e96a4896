import type { DifferingQuestion, DifferingQuestions, GroupAnswer } from '../evaluation/differing-questions.ts';
import type { RunSummary } from '../evaluation/summary.ts';
import { type Html, html } from './html.ts';

/** Longer texts are cut on the page; they stand whole in the run's folder. */
const textLimit = 2000;

/** Questions on which groups differ, with the answers side by side and a filter where scripts run. */
export const questionList = (
  { questions, differingCount }: DifferingQuestions,
  { questionCount }: RunSummary,
  withoutText: boolean,
): Html => {
  const labels = [...new Set(questions.flatMap(({ answers }) => answers.map(({ label }) => label)))];
  const options = labels.map((label, index) => html`<option value="${index}">${label}</option>`);
  const shown =
    questions.length < differingCount
      ? ` The first ${questions.length} are here, those that the planned comparisons turn on before others.`
      : '';
  return html`<p class="note">On ${differingCount} of ${questionCount} questions some got the strictly right answer more often than others.${shown} The texts are those of the first seed${withoutText ? ', left out of this copy' : ''}; n/m: right in n of m seeds.</p>
<form hidden><label>right more often: <select><option value="">any</option>${options}</select></label> <label>than: <select><option value="">any</option>${options}</select></label> <output></output></form>
${questions.map((question) => questionItem(question, labels, withoutText))}`;
};

const questionItem = ({ id, question, gold, answers }: DifferingQuestion, labels: readonly string[], withoutText: boolean): Html => {
  const byLabel = new Map(answers.map((answer) => [answer.label, answer]));
  // The filter compares these: the share of seeds that were right, by the order of the labels.
  const shares = labels.map((label) => {
    const answer = byLabel.get(label);
    return answer === undefined ? 0 : answer.rightCount / answer.seedCount;
  });
  const marks = answers.map(({ label, rightCount, seedCount }) => `${label} ${rightCount}/${seedCount}`).join(', ');
  const heading = html`<summary><strong>${id}</strong> <span class="marks">${marks}</span></summary>`;
  if (withoutText) return html`<details class="question" data-shares="${shares.join(' ')}">${heading}</details>\n`;
  return html`<details class="question" data-shares="${shares.join(' ')}">${heading}
<p class="text" dir="auto">${clipped(question)}</p><p class="note">right answer: <bdi>${clipped(gold)}</bdi></p>
<div class="answers">${answers.map(answerCard)}</div></details>\n`;
};

const answerCard = ({ label, shown }: GroupAnswer): Html => {
  const verdict = shown.strict ? html`<span class="right">✓ right</span>` : html`<span class="wrong">✗ wrong</span>`;
  const flexibly = shown.strict === shown.flexible ? '' : shown.flexible ? ', right by the last number' : ', wrong by the last number';
  const end = shown.finishReason === 'length' ? ', cut off' : '';
  return html`<div class="answer"><h4>${label}: ${verdict}${flexibly}${end}</h4><p class="text" dir="auto">${clipped(shown.text)}</p></div>`;
};

const clipped = (text: string): string =>
  text.length <= textLimit ? text : `${text.slice(0, textLimit)}… (cut here: ${text.length} characters in all)`;
