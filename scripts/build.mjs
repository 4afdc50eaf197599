/**
 * `npm run build`: src → dist, from an empty dist. tsc does not copy plain JavaScript, so the generated protobuf code is copied here.
 * Plain JavaScript, because npm runs it (`prepare`) before there is anything to run TypeScript with.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMPILER = 'node_modules/typescript/bin/tsc';
const GENERATED = ['onnx_pb.js', 'onnx_pb.d.ts'];
const BIN = 'dist/cli/main.js';

process.chdir(ROOT);

if (process.env.npm_lifecycle_event === 'prepare' && !existsSync(COMPILER)) {
  console.log('build: skipped, the development dependencies are not installed');
  process.exit();
}

rmSync('dist', { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [COMPILER, '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

for (const name of GENERATED) cpSync(`src/onnx/proto/${name}`, `dist/onnx/proto/${name}`);
// Not imported before: where the development dependencies are missing there is no esbuild either.
await import('./playground.mjs');
chmodSync(BIN, 0o755);
