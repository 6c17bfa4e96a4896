import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Surroundings } from '../methods/surroundings.ts';
import { onnxRuntimeInformation } from '../runtime/onnx-information.ts';
import { parseHubReference } from '../weights/hub-reference.ts';
import { resolveModel } from '../weights/resolve-model.ts';
import type { CommandContext } from './command-context.ts';
import { packageVersion } from './version.ts';

/** What the stages get of this process: its environment, progress, Ctrl-C. */
export const surroundingsOf = ({ terminal, options, progress, signal }: CommandContext): Surroundings => ({
  environment: terminal.environment,
  offline: options.offline,
  resolveModel: (reference) =>
    resolveModel(reference, {
      offline: options.offline,
      environment: terminal.environment,
      onProgress: ({ file, doneBytes, totalBytes }) =>
        progress.update(`download ${file}, MB`, { doneCount: Math.floor(doneBytes / 1e6), totalCount: Math.ceil(totalBytes / 1e6) }),
      onWarning: progress.say,
      signal,
    }),
  versions: { 'retort-kd': packageVersion(), node: process.versions.node, onnxruntime: onnxRuntimeInformation().version },
  signal,
  onProgress: progress.update,
  say: progress.say,
});

/** A model as it is named on the command line: a folder or file from where the command is given, or a repository on the hub. */
export const modelArgument = (text: string, workingFolder: string): string => {
  const path = resolve(workingFolder, text);
  if (text.startsWith('hub:')) return text;
  return parseHubReference(text) !== undefined && !existsSync(path) ? `hub:${text}` : path;
};
