import type { PrimingStrategy } from './strategy.ts';

/**
 * The strategies that come with the project, a row each. The texts are this project's own words for the ideas of response priming
 * (arXiv 2412.17846: none, teacher, ground-truth, confidence) and of rationalisation (STaR, arXiv 2203.14465: rationale).
 *
 * All of them stand in the user's message. Some chat templates, SmolLM2's among them, put a default system text in front of a conversation
 * that has none: a priming sent as system message would remove it, and the primed arms would differ from `none` in two things.
 *
 * Whoever changes a text raises its version.
 */
export const strategies: Readonly<Record<string, PrimingStrategy>> = {
  none: { name: 'none', version: 1, placement: 'before', text: '', seesSolution: false },

  teacher: {
    name: 'teacher',
    version: 1,
    placement: 'before',
    text:
      'You are a patient teacher, and the reader is a student who has never met a problem of this kind. Explain the way to the answer ' +
      'in short, simple steps, and say why each step follows before you take it.',
    seesSolution: false,
  },

  'ground-truth': {
    name: 'ground-truth',
    version: 1,
    placement: 'before',
    text:
      'You are a large language model, and what you write next will be the ground truth from which a much smaller language model learns. ' +
      'Answer fully and correctly, and write so that the smaller model can follow every step and learn to make it: leave none out, and ' +
      'lose nothing of what you know.',
    seesSolution: false,
  },

  confidence: {
    name: 'confidence',
    version: 1,
    placement: 'after',
    text: 'When you have worked out the answer, check it once more in a sentence or two and make sure that you trust it before you give it.',
    seesSolution: false,
  },

  rationale: {
    name: 'rationale',
    version: 1,
    placement: 'after',
    text:
      'A correct solution is given here as a hint:\n\n{{solution}}\n\nUse it to explain, in your own words and step by step, how to get from ' +
      'the question to the answer. Write as if you had found the solution yourself, and do not mention the hint.',
    seesSolution: true,
  },
};
