/** What the environment says about S3, by the names of Amazon's own tools. */
import { AppError } from '../errors.js';

export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface S3Settings {
  /** Of another implementation, without a slash at its end, to be asked for paths; null: Amazon's, of the region. */
  readonly endpoint: string | null;
  readonly region: string;
  /** null: requests are not signed. */
  readonly keys: S3Keys | null;
}

const ENDPOINTS = ['S3_ENDPOINT', 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL'] as const;
const REGION = /^[a-z0-9-]{1,32}$/;

/** Throws `invalid_config` where the endpoint is no web address, the region no region's name, or one key of two is missing. */
export function readS3Settings(env: Readonly<Record<string, string | undefined>>): S3Settings {
  const faults: string[] = [];
  const name = ENDPOINTS.find((variable) => env[variable]);
  const endpoint = name === undefined ? null : (env[name] ?? '').replace(/\/+$/, '');
  if (endpoint !== null && !/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : ''))
    faults.push(`${name}: Expected a web address but received ${endpoint}`);
  const region = env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || 'us-east-1';
  if (!REGION.test(region)) faults.push(`AWS_REGION: Expected a region's name such as us-east-1 but received ${region}`);
  const [accessKeyId, secretAccessKey, sessionToken] = ['ACCESS_KEY_ID', 'SECRET_ACCESS_KEY', 'SESSION_TOKEN'].map(
    (key) => env[`AWS_${key}`]?.trim() || undefined,
  );
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    faults.push('AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: Expected both or none but received one');
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'S3', faults);
  if (accessKeyId === undefined || secretAccessKey === undefined) return { endpoint, region, keys: null };
  return { endpoint, region, keys: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) } };
}
