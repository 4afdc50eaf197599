#!/usr/bin/env node
/** The `graft` command: one file a sub-command, loaded when it is asked for, so that serving never loads what only others need. */
import { Command } from 'commander';
import { type ConfigKey, flagInfos, loadConfig } from '../config.js';
import { AppError } from '../errors.js';

const SERVE_HELP = `
Every flag is also an environment variable (--max-batch is GRAFT_MAX_BATCH) and a key of graft.yaml (maxBatch: 16).
A flag wins over the environment, that over the file. Sizes may be written as 64MB or 1GiB.

Examples:
  $ graft serve --backbone models --adapters adapters
  $ graft serve --backbone models --default-adapter alt-text --port 0
  $ GRAFT_BACKBONE=models graft serve --config production.yaml

  $ curl http://127.0.0.1:8080/v1/captions -F image=@photo.jpg -F adapter=alt-text
  $ curl -N http://127.0.0.1:8080/v1/captions -F image=@photo.jpg -F adapter=alt-text -F stream=true
`;

const INSPECT_HELP = `
Examples:
  $ graft inspect models                                  what a backbone is made of
  $ graft inspect adapters/alt-text                       what an adapter holds, and whether its files are in order
  $ graft inspect adapters/alt-text --backbone models     whether it fits this backbone: every fault, matched modules
`;

function program(): Command {
  const graft = new Command('graft').description(
    'Serve image captions from one frozen backbone and many hot-swappable adapters.',
  );
  const serve = graft
    .command('serve')
    .description('Start the server. It prints its URL once it is ready.')
    .option('--config <file>', 'settings file (GRAFT_CONFIG; default ./graft.yaml where it exists)')
    .addHelpText('after', SERVE_HELP);
  for (const { flag, help } of flagInfos()) serve.option(`${flag} <value>`, help);
  serve.action(async ({ config: file, ...flags }: Partial<Record<ConfigKey | 'config', string>>) => {
    const config = await loadConfig({ flags, env: process.env, file, folder: process.cwd() });
    const { serve } = await import('./serve.js');
    await serve(config);
  });
  graft
    .command('inspect')
    .description('Show what a backbone or an adapter folder holds, and what is wrong with it.')
    .argument('<folder>', 'a backbone folder (or backbone.json), or an adapter folder')
    .option('--backbone <folder>', 'the backbone that the adapter is for')
    .addHelpText('after', INSPECT_HELP)
    .action(async (folder: string, { backbone }: { backbone?: string }) => {
      const { inspect } = await import('./inspect.js');
      const { text, faulty } = await inspect(folder, backbone);
      console.log(text);
      if (faulty) process.exitCode = 1;
    });
  return graft;
}

try {
  await program().parseAsync();
} catch (error) {
  // One line for people; the stack for who asks.
  const known = error instanceof AppError && error.faults && error.faults.length > 1;
  const lines = known
    ? [error.message.slice(0, error.message.indexOf(': ')), ...error.faults.map((fault) => `  ${fault}`)]
    : [(error as Error).message];
  console.error(`graft: ${lines.join('\n')}`);
  if (process.env['GRAFT_DEBUG'] === '1') console.error(error);
  process.exit(1);
}
