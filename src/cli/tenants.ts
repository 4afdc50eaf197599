/** Who may come to a server: its tenants, as its files say from moment to moment; or, where there are none, whoever reaches it. */
import type { Logger } from 'pino';
import { CONFIG_KEYS, type Config, isLoopback } from '../config.js';
import type { Metrics } from '../metrics.js';
import { TenantDirectory } from '../tenants/directory.js';
import type { Tenants } from '../tenants/tenants.js';

export interface Access {
  readonly tenants: Tenants;
  /** Who may come, as the end of the line that says that the server is ready. */
  readonly words: string;
  /** Reads the tenants again. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/** `usual`: whom it serves where the configuration names no tenants. Throws `invalid_config` with every fault of their files. */
export async function openAccess(
  config: Pick<Config, 'tenants' | 'settingsFile' | 'host'>,
  usual: Tenants,
  metrics: Metrics,
  log: Logger,
): Promise<Access> {
  const { tenants: location, host } = config;
  if (location === null) {
    const words = isLoopback(host) ? 'no tenants: for this machine alone' : 'no tenants: open to all who reach it';
    return { tenants: usual, words, reload: () => Promise.resolve(), close: () => Promise.resolve() };
  }
  const directory = await TenantDirectory.open({
    location,
    others: othersIn(config),
    observer: {
      reloaded(tenants) {
        metrics.tenantsReloaded('ok');
        log.info({ tenants }, 'the tenants were read again');
      },
      failed(error) {
        metrics.tenantsReloaded('failed');
        log.error({ faults: error.faults ?? [error.message] }, 'the tenants stay as they were: their files are wrong');
      },
    },
  });
  return {
    tenants: directory,
    get words() {
      return `${directory.size} ${directory.size === 1 ? 'tenant' : 'tenants'}`;
    },
    reload: () => directory.reload(),
    close: () => directory.close(),
  };
}

/** What else may stand in a file of tenants: settings, in the file of settings. */
export function othersIn({ tenants, settingsFile }: Pick<Config, 'tenants' | 'settingsFile'>): readonly string[] {
  return tenants !== null && tenants === settingsFile ? CONFIG_KEYS : [];
}
