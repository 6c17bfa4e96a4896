/** What is learnt, and how an answer is judged. One row a task. */
export interface Task {
  readonly name: string;
  /** Told to teacher and student alike, in every arm: how the answer must end. '' where nothing need be told. */
  readonly instruction: string;
  /** The only columns that `parseExample` looks at: of a table that has them, no others are read. Absent: it may look at all. */
  readonly columns?: readonly string[];
  /** Parses one row of the task's data. A row without an answer is an error that names the place. */
  parseExample(value: unknown, place: ExamplePlace): Example;
  /** Judges the text of an answer against an example. */
  score(answer: string, example: Example): AnswerScore;
}

/** Where a row of data stands. */
export interface ExamplePlace {
  /** `train` or `test`. */
  readonly split: string;
  /** How many examples come before it in its split. */
  readonly index: number;
  /** File and line, row or item, for errors. */
  readonly where: string;
}

/** A question with the data set's own solution. */
export interface Example {
  /** Unique within its split and stable: what answers, scores and reports are joined by. */
  readonly id: string;
  readonly question: string;
  /** The worked solution as a student would be taught it, ending in the final answer in the task's format. */
  readonly solution: string;
  /** The final answer alone. */
  readonly gold: string;
}

export interface AnswerScore {
  /** What was read from the answer, under either rule; undefined where the rule found nothing. */
  readonly strictExtraction: string | undefined;
  readonly flexibleExtraction: string | undefined;
  readonly strict: boolean;
  readonly flexible: boolean;
  /** Whether the answer has the form that the instruction asks for, right or wrong. */
  readonly followsFormat: boolean;
}
