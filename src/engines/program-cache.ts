import type { Program } from '../runtime/program.ts';

/** Compiled programs by key; the one that was used longest ago is released when there are too many. */
export interface ProgramCache {
  get(key: string, compile: () => Promise<Program>): Promise<Program>;
  release(): Promise<void>;
}

export const programCache = (capacity: number): ProgramCache => {
  // A Map keeps insertion order: what is used is inserted anew, so the first is the oldest.
  const programs = new Map<string, Program>();
  return {
    get: async (key, compile) => {
      const known = programs.get(key);
      if (known !== undefined) {
        programs.delete(key);
        programs.set(key, known);
        return known;
      }
      for (const [oldest, program] of programs) {
        if (programs.size < capacity) break;
        programs.delete(oldest);
        await program.release();
      }
      const program = await compile();
      programs.set(key, program);
      return program;
    },
    release: async () => {
      for (const program of programs.values()) await program.release();
      programs.clear();
    },
  };
};
