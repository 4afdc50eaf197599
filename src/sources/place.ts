/**
 * Where adapters come from, as people write it: `s3://BUCKET/FOLDER` and `hf://OWNER/NAME[@REVISION][/FOLDER]`. What a request says becomes
 * paths and addresses, so it is taken apart here and compared part by part: text that begins alike may lead elsewhere.
 */
import { AppError } from '../errors.js';
import { isPlainPath, parseReference, type Reference, repositoryOf } from '../hub/reference.js';

export type SourceKind = 's3' | 'hub';

export interface S3Place {
  readonly kind: 's3';
  readonly bucket: string;
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly folder: string;
  /** One text for all spellings. */
  readonly text: string;
}

export interface HubPlace {
  readonly kind: 'hub';
  readonly reference: Reference;
  /** As above; empty for the whole repository. */
  readonly folder: string;
  readonly text: string;
}

export type Place = S3Place | HubPlace;

export const PLACE_FORMS = 's3://BUCKET/FOLDER or hf://OWNER/NAME[@REVISION][/FOLDER]';

/** Longer than any key that S3 takes. */
const MAX_LENGTH = 2048;
const S3 = /^s3:\/\/(?<bucket>[^/]*)(?:\/(?<folder>.*))?$/s;
const HUB = /^hf:\/\/(?<repository>[^/@]+\/[^/@]+)(?:@(?<revision>[^/]+))?(?:\/(?<folder>.*))?$/s;
/** Becomes a label of a host's name. */
const BUCKET = /^[a-z0-9](?:[a-z0-9-]|\.(?=[a-z0-9])){1,61}[a-z0-9]$/;

/** Undefined for what is no such place. */
export function parsePlace(text: string): Place | undefined {
  if (text.length > MAX_LENGTH || /[\s\p{Cc}]/u.test(text)) return undefined;
  const s3 = S3.exec(text)?.groups;
  if (s3 !== undefined) return s3Place(s3['bucket'] ?? '', withoutEnd(s3['folder']));
  const hub = HUB.exec(text)?.groups;
  return hub && hubPlace(hub['repository'] ?? '', hub['revision'], withoutEnd(hub['folder']));
}

function s3Place(bucket: string, folder: string): S3Place | undefined {
  if (!BUCKET.test(bucket) || !isFolder(folder)) return undefined;
  return { kind: 's3', bucket, folder, text: `s3://${[bucket, folder].filter(Boolean).join('/')}` };
}

function hubPlace(repository: string, revision: string | undefined, folder: string): HubPlace | undefined {
  if (!isFolder(folder)) return undefined;
  try {
    // A slash in a branch's name is written %2F.
    const reference = parseReference(revision === undefined ? repository : `${repository}@${decodeURIComponent(revision)}`);
    const at = reference.revision === 'main' ? '' : `@${encodeURIComponent(reference.revision)}`;
    return { kind: 'hub', reference, folder, text: `hf://${[`${repository}${at}`, folder].filter(Boolean).join('/')}` };
  } catch (error) {
    if (error instanceof AppError || error instanceof URIError) return undefined;
    throw error;
  }
}

function withoutEnd(folder = ''): string {
  return folder.endsWith('/') ? folder.slice(0, -1) : folder;
}

function isFolder(folder: string): boolean {
  return folder === '' || isPlainPath(folder);
}

/** A place and all that is below it. */
interface Region {
  readonly kind: SourceKind;
  /** Undefined: any. */
  readonly revision: string | undefined;
  /** Bucket or owner and repository, then the folder's names. */
  readonly names: readonly string[];
}

/** The places that requests may name. */
export class Allowance {
  readonly #regions: readonly Region[];

  /**
   * Of beginnings such as `s3://bucket/team/`, `hf://owner` or `hf://owner/name@v1`. Throws `invalid_config` naming every one that is none.
   */
  constructor(prefixes: readonly string[]) {
    const regions = prefixes.map(regionOf);
    const faults = prefixes
      .filter((_, index) => regions[index] === undefined)
      .map((text) => `Expected the beginning of ${PLACE_FORMS} but received ${JSON.stringify(text)}`);
    if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'allowSources', faults);
    this.#regions = regions.filter((region) => region !== undefined);
  }

  allows(place: Place): boolean {
    const names = namesOf(place);
    return this.#regions.some(
      (region) =>
        region.kind === place.kind &&
        (region.revision === undefined || (place.kind === 'hub' && region.revision === place.reference.revision)) &&
        region.names.every((name, index) => name === names[index]),
    );
  }
}

function regionOf(text: string): Region | undefined {
  if (text === 's3://') return { kind: 's3', revision: undefined, names: [] };
  if (text === 'hf://') return { kind: 'hub', revision: undefined, names: [] };
  const owner = /^hf:\/\/([\w.-]+)\/?$/.exec(text)?.[1];
  if (owner !== undefined) return { kind: 'hub', revision: undefined, names: [owner] };
  const place = parsePlace(text);
  if (place === undefined) return undefined;
  const isOfOneRevision = place.kind === 'hub' && /^hf:\/\/[^@]*@/.test(text);
  return { kind: place.kind, revision: isOfOneRevision ? place.reference.revision : undefined, names: namesOf(place) };
}

function namesOf(place: Place): string[] {
  const first = place.kind === 's3' ? [place.bucket] : repositoryOf(place.reference).split('/');
  return [...first, ...place.folder.split('/').filter(Boolean)];
}
