/** `graft keys`: its sub-commands and their flags. What they do is loaded when it is asked for. */
import { Command } from 'commander';
import type { CreateFlags, KeyFlags } from './keys/change.js';
import type { ListFlags } from './keys/list.js';

const KEYS_HELP = `
Tenants and the hashes of their keys stand in a YAML file (or a folder of them): --tenants, GRAFT_TENANTS, or tenants: in graft.yaml, as for
graft serve; else ./tenants.yaml. A running server takes changes up within 2 seconds. docs/tenants.md has the format.
`;

const CREATE_HELP = `
Makes a key of 256 random bits, writes its hash into the file (comments stay), and prints the key: on stdout, alone, this once. The tenant and
the file are made where they are not there yet. What else a tenant may do (adapters, limits, weight) is for the file to say.

Examples:
  $ graft keys create acme                                      a key that never expires, for a tenant that may be new
  $ KEY=$(graft keys create acme --id laptop --expires 90d)     into a variable, past the screen
  $ graft keys create ops --admin --tenants /etc/graft/tenants  an operator, in a folder of files: /etc/graft/tenants/ops.yaml
  $ curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/v1/adapters

To change a key: create another, change over to it, then revoke the old one.
`;

const LIST_HELP = `
Examples:
  $ graft keys list
  $ graft keys list --tenants /etc/graft/tenants --json
`;

const REVOKE_HELP = `
The key is refused from the next request on (within 2 seconds); requests that run are finished.

Examples:
  $ graft keys revoke acme laptop
`;

const TENANTS_FLAG = ['--tenants <path>', 'the file of tenants, or a folder of them'] as const;
const CONFIG_FLAG = ['--config <file>', 'settings file (GRAFT_CONFIG; default ./graft.yaml where it exists)'] as const;

export function keysCommand(): Command {
  const keys = new Command('keys').description("Make, list and revoke the tenants' API keys.").addHelpText('after', KEYS_HELP);
  keys
    .command('create')
    .description('Make a key for a tenant, and print it.')
    .argument('<tenant>', 'a-z, 0-9 and -; its own adapters are TENANT/NAME')
    .option('--id <id>', 'what the key is called (default: key-1, key-2, ...)')
    .option(
      '--expires <when>',
      'a number of days or hours (90d, 12h), a date, or a time such as 2027-01-01T00:00:00Z (default: never)',
    )
    .option('--admin', 'a new tenant that sees and changes everything, and reads /metrics')
    .option(...TENANTS_FLAG)
    .option(...CONFIG_FLAG)
    .addHelpText('after', CREATE_HELP)
    .action(async (tenant: string, flags: CreateFlags) => {
      const { createKey } = await import('./keys/change.js');
      const { key, note } = await createKey(tenant, flags, process.env, process.cwd());
      console.error(note);
      console.log(key);
    });
  keys
    .command('list')
    .description('Show whose keys there are, and until when. A key itself is nowhere.')
    .option('--json', 'print JSON')
    .option(...TENANTS_FLAG)
    .option(...CONFIG_FLAG)
    .addHelpText('after', LIST_HELP)
    .action(async (flags: ListFlags) => {
      const { listKeys } = await import('./keys/list.js');
      console.log(await listKeys(flags, process.env, process.cwd()));
    });
  keys
    .command('revoke')
    .description('Remove a key.')
    .argument('<tenant>', 'whose it is')
    .argument('<id>', 'what it is called (graft keys list)')
    .option(...TENANTS_FLAG)
    .option(...CONFIG_FLAG)
    .addHelpText('after', REVOKE_HELP)
    .action(async (tenant: string, id: string, flags: KeyFlags) => {
      const { revokeKey } = await import('./keys/change.js');
      console.log(await revokeKey(tenant, id, flags, process.env, process.cwd()));
    });
  return keys;
}
