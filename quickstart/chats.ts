import { type Random, randomFrom } from '../src/base/random.ts';
import { primedMessages, studentMessages } from '../src/priming/primed-messages.ts';
import { generateWordProblems, type WordProblem } from '../src/tasks/word-problem-generator.ts';
import { wordProblems } from '../src/tasks/word-problems.ts';
import { allTexts, drawText } from './instructions.ts';
import { type StyleName, styles } from './styles.ts';

/** One line of chat JSONL, as `retort train` reads it. */
export interface Chat {
  readonly messages: readonly { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }[];
}

/**
 * What the teacher learns from: most questions come with an instruction on how to answer, before or after the question or as
 * system message, and are answered in that style; the others are answered in a mixture.
 */
export const teacherChats = ({ seed, count }: { seed: number; count: number }): Chat[] =>
  generateWordProblems({ part: 'pretrain', seed, count }).map((problem, index) => {
    const random = randomFrom(seed, 'teacher-chat', index);
    if (random.uniform() < teacherShareWithoutInstruction) return chatOf(problem, drawStyle(teacherMixture, random));
    const style = drawStyle(instructedMixture, random);
    return chatOf(problem, style, { text: drawInstruction(style, random), random });
  });

/** What the student learns from before any distillation: mostly bare answers. It never sees an instruction on how to answer. */
export const studentChats = ({ seed, count }: { seed: number; count: number }): Chat[] =>
  generateWordProblems({ part: 'pretrain', seed, count }).map((problem, index) =>
    chatOf(problem, drawStyle(studentMixture, randomFrom(seed, 'student-chat', index))),
  );

/** Short rows that teach what the stories need, cheaply: chains of calculations, and stories of one calculation. */
export const drillChats = ({ seed, count }: { seed: number; count: number }): Chat[] => {
  const stories = generateWordProblems({ part: 'pretrain', seed, count, fewestSteps: 1, mostSteps: 1 });
  const chains = generateWordProblems({ part: 'pretrain', seed: seed + 1, count });
  return [...stories.map((problem) => chatOf(problem, 'steps')), ...chains.flatMap(chainChat)];
};

/** The bare calculations of a story in which each goes on from the last, results left out: '6+4, then -6, then *2'. */
const chainChat = (problem: WordProblem): Chat[] => {
  if (problem.steps.some(({ left }, index) => index > 0 && left !== problem.steps[index - 1]?.result)) return [];
  const chain = problem.steps.map(({ left, operator, right }, index) => `${index === 0 ? left : 'then '}${operator}${right}`);
  return [
    {
      messages: [
        { role: 'user', content: `Calculate ${chain.join(', ')}.` },
        { role: 'assistant', content: styles.steps.answer(problem) },
      ],
    },
  ];
};

/** What the tokenizer is learnt from: problems, answers to them in every style, and all instructions. */
export const tokenizerTexts = ({ seed, count }: { seed: number; count: number }): string[] => {
  const problems = generateWordProblems({ part: 'pretrain', seed, count });
  return Object.values(styles).flatMap(({ answer, instructions }) => [
    ...problems.flatMap((problem) => [...chatOf(problem, 'terse').messages.map(({ content }) => content), answer(problem)]),
    ...instructions.flatMap(allTexts),
  ]);
};

type Mixture = Readonly<Record<StyleName, number>>;

const teacherShareWithoutInstruction = 0.15;
const teacherMixture: Mixture = { terse: 0.4, steps: 0.35, explained: 0.2, checked: 0.05 };
const instructedMixture: Mixture = { terse: 0.15, steps: 0.35, explained: 0.25, checked: 0.25 };
const studentMixture: Mixture = { terse: 0.5, steps: 0.2, explained: 0.15, checked: 0.15 };

const drawStyle = (mixture: Mixture, random: Random): StyleName => {
  let rest = random.uniform();
  for (const [name, share] of Object.entries(mixture)) {
    rest -= share;
    if (rest < 0) return name as StyleName;
  }
  return 'terse';
};

/**
 * One of a style's instructions, or two of them, in half of all cases with words missing: what asks for a style is then each of its words
 * rather than a known text, and a paraphrase has a chance.
 */
const drawInstruction = (style: StyleName, random: Random): string => {
  const { instructions } = styles[style];
  const sentence = (): string => drawText(instructions[random.integer(instructions.length)] ?? '', random);
  const text = random.uniform() < 0.3 ? `${sentence()} ${sentence()}` : sentence();
  if (random.uniform() < 0.5) return text;
  const kept = text.split(' ').filter(() => random.uniform() < 0.8);
  return kept.length === 0 ? text : kept.join(' ');
};

/** The very messages that a run makes of a question, with or without priming, and the answer. */
const chatOf = (problem: WordProblem, style: StyleName, instruction?: { text: string; random: Random }): Chat => {
  const assistant = { role: 'assistant', content: styles[style].answer(problem) } as const;
  if (instruction === undefined) return { messages: [...studentMessages(problem, wordProblems.instruction), assistant] };
  const placement = placements[instruction.random.integer(placements.length)] ?? 'before';
  const strategy = { name: style, version: 1, placement, text: instruction.text, seesSolution: false };
  return { messages: [...primedMessages(strategy, problem, wordProblems.instruction), assistant] };
};

const placements = ['system', 'before', 'after'] as const;
