import { existsSync, readFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { availableParallelism, freemem } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { messageOf, UserError } from '../../base/errors.ts';
import { gigabytes, memoryBytes } from '../../base/memory.ts';
import { thisMachine } from '../../run-folder/machine.ts';
import { packageVersion } from '../../run-folder/versions.ts';
import type { DeviceName } from '../../runtime/devices.ts';
import { defaultCacheFolder } from '../../weights/cache-folder.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { deviceOption } from '../model-options.ts';

export const addDoctor = (program: Command, act: Act): void => {
  program
    .command('doctor')
    .description('what this machine offers: Node, ONNX Runtime, processor, memory, caches, keys')
    .addOption(deviceOption('open it too, and list where each op of a training step and of decoding runs on it'))
    .action(act(doctor));
};

/** What was found of one thing, and what to do where it is not as it should be. */
interface Finding {
  readonly name: string;
  readonly value: string;
  readonly advice?: string;
}

const doctor = async (context: CommandContext, { device }: { readonly device?: DeviceName }): Promise<void> => {
  const findings = [
    { name: 'retort', value: packageVersion() },
    node(),
    ...(await onnxRuntime()),
    ...processor(),
    await byteProducts(),
    memory(),
    await cache(),
    keys(context.terminal.environment),
    ...(device === undefined ? [] : await deviceFindings(device)),
  ];
  const width = Math.max(...findings.map(({ name }) => name.length));
  const text = findings.map(
    ({ name, value, advice }) => `${name.padEnd(width)}  ${value}${advice === undefined ? '' : `\n${' '.repeat(width + 2)}→ ${advice}`}`,
  );
  printResult(context, Object.fromEntries(findings.map(({ name, ...rest }) => [name, rest])), text.join('\n'));
};

const node = (): Finding => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isOld = major < 22 || (major === 22 && minor < 12);
  return {
    name: 'Node',
    value: `${process.version}, ${process.platform} ${process.arch}`,
    ...(isOld ? { advice: 'retort needs 22.12 or newer' } : {}),
  };
};

/** Loaded only here, so that a machine on which it cannot be loaded still gets the rest. */
const onnxRuntime = async (): Promise<Finding[]> => {
  try {
    const { onnxRuntimeInformation } = await import('../../runtime/onnx-information.ts');
    const { version, providers } = onnxRuntimeInformation();
    return [
      { name: 'ONNX Runtime', value: version },
      {
        name: 'providers',
        value: providers.map(({ name, isBundled }) => (isBundled ? name : `${name} (its files are not in the package)`)).join(', '),
        advice: 'choose with `device:` in a config’s engine section or --device; `retort doctor --device NAME` opens one',
      },
    ];
  } catch (error) {
    const advice =
      process.platform === 'darwin' && process.arch === 'x64'
        ? 'onnxruntime-node has no binary for Intel Macs since 1.24'
        : 'install retort-kd again; on Alpine and other systems with musl, onnxruntime-node has no binary';
    return [{ name: 'ONNX Runtime', value: `cannot be loaded: ${messageOf(error).split('\n')[0]}`, advice }];
  }
};

/** How frozen weights in 8 bits are multiplied here, found out by the worst case. */
const byteProducts = async (): Promise<Finding> => {
  const name = '8-bit products';
  try {
    const { integerForm } = await import('../../engines/integer-form.ts');
    return (await integerForm()) === 'int8'
      ? { name, value: 'u8 × s8 is exact: `precision: int8` trains on it' }
      : {
          name,
          value: 'u8 × s8 saturates here, so `precision: int8` takes u8 × u8, which is exact and slower',
          advice: 'compare the speed of both precisions before a long training',
        };
  } catch (error) {
    return { name, value: `cannot be had: ${messageOf(error).split('\n')[0]}` };
  }
};

/** Whether a device can be opened, and what of a small Llama's programs runs on it. */
const deviceFindings = async (device: DeviceName): Promise<Finding[]> => {
  try {
    const { checkDevice } = await import('../../engines/device-check.ts');
    const placements = await checkDevice(device);
    return [
      { name: `device ${device}`, value: 'can be opened' },
      ...placements.map(({ program, ops }) => ({
        name: program,
        value: [...Map.groupBy(ops, ({ provider }) => provider)]
          .map(([provider, there]) => `on ${provider}: ${there.map(({ opType, count }) => `${opType} ${count}`).join(', ')}`)
          .join('; '),
      })),
    ];
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [{ name: `device ${device}`, value: 'cannot be opened', advice: error.message }];
  }
};

/** The instruction sets on which speed depends, by the kernel's names. Without VNNI, 8-bit products saturate on some processors. */
const instructionSets = {
  avx2: 'AVX2',
  avx512f: 'AVX-512',
  avx512_vnni: 'AVX-512 VNNI',
  avx_vnni: 'AVX VNNI',
  avx512_bf16: 'AVX-512 BF16',
  amx_int8: 'AMX int8',
  asimddp: 'dot products',
  i8mm: 'int8 products',
  bf16: 'bfloat16',
  sve: 'SVE',
};

const processor = (): Finding[] => {
  const { processor: model, coreCount } = thisMachine();
  const usable = availableParallelism();
  const cores = usable === coreCount ? `${coreCount} cores` : `${usable} of ${coreCount} cores`;
  const flags = existsSync('/proc/cpuinfo')
    ? new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim().split(/\s+/))
    : undefined;
  const sets = Object.entries(instructionSets).flatMap(([flag, name]) => (flags?.has(flag) === true ? [name] : []));
  return [
    { name: 'processor', value: `${model}, ${cores}` },
    { name: 'instructions', value: flags === undefined ? 'unknown on this system' : sets.join(', ') || 'none of those that matter' },
  ];
};

const memory = (): Finding => {
  const total = memoryBytes();
  return { name: 'memory', value: `${gigabytes(total)}, ${gigabytes(Math.min(freemem(), total))} free` };
};

const cache = async (): Promise<Finding> => {
  const folder = defaultCacheFolder();
  const size = await sizeOf(folder);
  return { name: 'cache', value: size === undefined ? `${folder} (nothing there yet)` : `${folder}, ${gigabytes(size)}` };
};

const sizeOf = async (folder: string): Promise<number | undefined> => {
  if (!existsSync(folder)) return undefined;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      // another process may clean up meanwhile
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
};

/** Names alone: a key's value is never printed. */
const keys = (environment: Readonly<Record<string, string | undefined>>): Finding => {
  const set = Object.keys(environment).filter((name) => (/_API_KEY$/.test(name) || name === 'HF_TOKEN') && environment[name] !== '');
  return { name: 'keys', value: set.length === 0 ? 'none set' : `${set.sort().join(', ')} (set; values not shown)` };
};
