/**
 * Which files of a repository are fetched. What Graft and Python's libraries read of a model that is kept as safetensors, and its licence;
 * the same weights in other formats are not, and pickles never: they are programs.
 */
import { AppError } from '../errors.js';
import type { HubFile } from './client.js';
import { isPlainPath } from './reference.js';

export const USUAL = ['*.safetensors', '*.json', '*.txt', '*.jinja', '*.model', 'README.md', 'LICENSE*', 'NOTICE*'] as const;

const WEIGHTS = /\.safetensors$/;
const PICKLED = /\.(bin|pt|pth|ckpt|pkl|pickle|joblib|dill|npy|npz|t7)$/i;

export interface Choice {
  /** Patterns as huggingface_hub has them: `*` stands for anything, slashes too. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

/** Throws `unsupported_model` without safetensors, `invalid_config` where nothing is chosen, `download_failed` for paths that lead elsewhere. */
export function select(repository: string, files: readonly HubFile[], { include, exclude }: Choice): HubFile[] {
  if (!files.some(({ path }) => WEIGHTS.test(path))) {
    const pickled = files.map(({ path }) => path).find((path) => PICKLED.test(path));
    const instead = pickled === undefined ? 'has none' : `has ${pickled}: pickle can run any program and is never fetched`;
    throw new AppError('unsupported_model', `Expected a repository with .safetensors files but ${repository} ${instead}`);
  }
  const [included, excluded] = [include.map(globOf), exclude.map(globOf)];
  const chosen = files.filter(
    ({ path }) => included.some((glob) => glob.test(path)) && !excluded.some((glob) => glob.test(path)) && !PICKLED.test(path),
  );
  if (chosen.length === 0) {
    const paths = files.map(({ path }) => path).join(', ');
    throw new AppError(
      'invalid_config',
      `Expected --include and --exclude to leave a file of ${repository} but received ${paths}`,
    );
  }
  const faults = chosen
    .filter(({ path }) => !isPlainPath(path))
    .map(({ path }) => `Expected a path inside of the repository but received ${JSON.stringify(path)}`);
  if (faults.length > 0) throw AppError.ofFaults('download_failed', `The files of ${repository}`, faults);
  return chosen;
}

function globOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[\\^$+.()|[\]{}]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's');
}
