/** An adapter on the hub: a repository, or a folder of one, at the commit that its revision is now. */
import { AppError } from '../errors.js';
import { HubClient } from '../hub/client.js';
import { COMMIT, repositoryOf } from '../hub/reference.js';
import type { Patience } from '../hub/retry.js';
import type { HubSettings } from '../hub/settings.js';
import type { HubPlace } from './place.js';
import { chooseFiles, type Source, type SourceVersion, versionId } from './source.js';

export function hubSource(place: HubPlace, settings: HubSettings, maxBytes: number): Source {
  const { reference, folder, text } = place;
  const { isOffline } = settings;
  const version = async (patience: Patience): Promise<SourceVersion> => {
    if (isOffline) throw new AppError('download_failed', `Expected ${text} on this disk, since HF_HUB_OFFLINE is set`);
    const client = new HubClient(settings, patience);
    const commit = await client.commit(reference);
    const start = folder === '' ? '' : `${folder}/`;
    const below = (await client.files(reference, commit)).filter(({ path }) => path.startsWith(start));
    const files = chooseFiles(
      text,
      below.map((file) => ({ ...file, path: file.path.slice(start.length) })),
      maxBytes,
    );
    return {
      // Hashes tell contents apart everywhere: a branch and its commit are one version, whatever else of the repository changes.
      id: versionId([settings.endpoint, repositoryOf(reference)], files),
      files,
      isHashed: true,
      open: (file, offset, signal) => client.open(reference, commit, start + file.path, offset, signal),
    };
  };
  return { kind: 'hub', key: `${text} ${settings.endpoint}`, isPinned: COMMIT.test(reference.revision), isOffline, version };
}
