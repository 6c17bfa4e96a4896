import type { Program } from '../runtime/program.ts';

/** A program that is not compiled yet. */
export interface Plan {
  /** About how much memory it will hold on to. */
  readonly sizeBytes: number;
  readonly compile: () => Promise<Program>;
}

/** Compiled programs by key; those that were used longest ago are released when all together would hold too much memory. */
export interface ProgramCache {
  get(key: string, plan: () => Plan): Promise<Program>;
  release(): Promise<void>;
}

/** @param limitBytes what the programs may hold together; one that is larger by itself is kept alone */
export const programCache = (limitBytes: number): ProgramCache => {
  // A Map keeps insertion order: what is used is inserted anew, so the first is the oldest.
  const programs = new Map<string, { readonly program: Program; readonly sizeBytes: number }>();
  const held = (): number => programs.values().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return {
    get: async (key, plan) => {
      const known = programs.get(key);
      if (known !== undefined) {
        programs.delete(key);
        programs.set(key, known);
        return known.program;
      }
      const { sizeBytes, compile } = plan();
      for (const [oldest, { program }] of programs) {
        if (held() + sizeBytes <= limitBytes) break;
        programs.delete(oldest);
        await program.release();
      }
      const program = await compile();
      programs.set(key, { program, sizeBytes });
      return program;
    },
    release: async () => {
      for (const { program } of programs.values()) await program.release();
      programs.clear();
    },
  };
};
