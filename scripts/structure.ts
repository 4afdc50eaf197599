/**
 * `npm run structure`: what no compiler checks. The import table (.dependency-cruiser.mjs), the processes that must never load native
 * code, the size of files, and that the generated protobuf code is what onnx.proto generates. Every fault is printed; any fails.
 * dependency-cruiser passes with zero modules where it cannot load the compiler, so the number of modules is checked as well.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise, type ICruiseResult, type IModule } from 'dependency-cruiser';
import extractOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const GENERATED = 'src/onnx/proto';
const MIN_MODULES = 20;
const MAX_LINES = 400;

/** The front end: it takes bytes from strangers and has to outlive every native crash. */
const FRONT_END =
  /^src\/(http\/|hub\/|sources\/|store\/|tenants\/|finetuning\/(?!process\.)|(cli\/(main|serve)|config|metrics|tracing|traffic)\.ts$)/;
const NATIVE = /(^|node_modules\/)(onnxruntime-node|onnxruntime-common|sharp)(\/|$)/;

/** Cruises `src` below `root` with the repository's rules. */
export async function cruiseSource(root: string): Promise<ICruiseResult> {
  const options = await extractOptions(join(ROOT, '.dependency-cruiser.mjs'));
  const { output } = await cruise(['src'], { ...options, baseDir: root });
  if (typeof output === 'string') throw new TypeError('Expected a cruise result but received a report');
  return output;
}

/** Broken rules, each with the edge that breaks it and the rule's own sentence. */
export function importFaults({ summary }: ICruiseResult): string[] {
  const comments = new Map(summary.ruleSetUsed?.forbidden?.map((rule) => [rule.name, rule.comment]));
  return summary.violations.map(({ rule, from, to, cycle }) => {
    const path = cycle ? [from, ...cycle.map((step) => step.name)].join(' → ') : from === to ? from : `${from} → ${to}`;
    return `${rule.name}: ${path}. ${comments.get(rule.name) ?? ''}`;
  });
}

/** The first way by which each front-end file loads native code: static imports only, `import type` and `import()` load nothing. */
export function nativeFaults({ modules }: ICruiseResult): string[] {
  const bySource = new Map(modules.map((module) => [module.source, module]));
  return modules
    .filter(({ source }) => FRONT_END.test(source))
    .map(({ source }) => pathToNative(source, bySource))
    .filter((path) => path !== undefined)
    .map(
      (path) =>
        `front-end-is-native-free: ${path.join(' → ')}. A native crash would take the server with it: import it lazily or by type.`,
    );
}

function pathToNative(start: string, bySource: ReadonlyMap<string, IModule>): string[] | undefined {
  const cameFrom = new Map<string, string | undefined>([[start, undefined]]);
  for (const source of cameFrom.keys()) {
    if (NATIVE.test(source)) {
      const path: string[] = [];
      for (let step: string | undefined = source; step !== undefined; step = cameFrom.get(step)) path.unshift(step);
      return path;
    }
    for (const { resolved, dynamic, dependencyTypes } of bySource.get(source)?.dependencies ?? []) {
      const loads = !dynamic && !dependencyTypes.includes('type-only');
      if (loads && !cameFrom.has(resolved)) cameFrom.set(resolved, source);
    }
  }
  return undefined;
}

/** Files of `src` that want to be two. */
export function sizeFaults(root: string): string[] {
  return readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter((path) => !path.startsWith(`${GENERATED}/`))
    .map((path) => ({ path, lines: readFileSync(join(root, path), 'utf8').trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => `file-size: Expected ${path} to have at most ${MAX_LINES} lines but received ${lines}`);
}

/** Generates the protobuf code afresh and compares. */
function generatedFaults(): string[] {
  const folder = join(ROOT, GENERATED);
  const fresh = mkdtempSync(join(tmpdir(), 'graft-generated-'));
  try {
    const { status, stderr, error } = spawnSync('buf', ['generate', '-o', fresh], { cwd: folder, encoding: 'utf8' });
    if (status !== 0) return [`generated: buf failed: ${error?.message ?? stderr}`];
    return readdirSync(fresh)
      .filter((name) => !readFileSync(join(fresh, name)).equals(readFileSync(join(folder, name))))
      .map((name) => `generated: ${GENERATED}/${name} is not what onnx.proto generates: npm run generate`);
  } finally {
    rmSync(fresh, { recursive: true });
  }
}

async function main(): Promise<void> {
  const result = await cruiseSource(ROOT);
  const modules = result.modules.filter(({ source }) => source.startsWith('src/')).length;
  const faults = [
    ...(modules > MIN_MODULES ? [] : [`modules: Expected more than ${MIN_MODULES} cruised modules but received ${modules}`]),
    ...importFaults(result),
    ...nativeFaults(result),
    ...sizeFaults(ROOT),
    ...generatedFaults(),
  ];
  for (const fault of faults) console.error(fault);
  console.log(`structure: ${modules} modules, ${result.summary.totalDependenciesCruised ?? 0} imports, ${faults.length} faults`);
  if (faults.length > 0) process.exitCode = 1;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
