#!/usr/bin/env node
/** The `graft` command: one file a sub-command, loaded when it is asked for, so that serving never loads what only others need. */
import { Command } from 'commander';
import { type ConfigSources, flagInfos, loadConfig } from '../config.js';
import { flagOf, type Setting } from '../settings.js';
import { TRAIN_HEADINGS, TRAIN_SETTINGS } from '../training/options.js';
import { adaptersCommand } from './adapters.js';
import type { DoctorFlags } from './doctor.js';
import { CAPTIONS_SETTINGS, EVAL_SETTINGS } from './eval/options.js';
import { TROUBLE, tellFailure } from './failure.js';
import { keysCommand } from './keys.js';
import type { ParamsFlags } from './params.js';
import { PULL_SETTINGS } from './pull/options.js';
import type { TopFlags } from './top.js';

const SERVE_HELP = `
Every flag is also an environment variable (--max-batch is GRAFT_MAX_BATCH) and a key of graft.yaml (maxBatch: 16).
A flag wins over the environment, that over the file. Sizes may be written as 64MB or 1GiB.

Adapters from elsewhere: S3_ENDPOINT (or AWS_ENDPOINT_URL), AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN say how a
bucket is read (without keys: unsigned); HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub. docs/sources.md has more.

Examples:
  $ graft serve --backbone models --adapters adapters
  $ graft serve --backbone models --default-adapter alt-text --port 0
  $ graft serve --backbone models --adapter-source alt=s3://bucket/adapters/alt --adapter-source tags=hf://owner/tags@v2
  $ graft serve --backbone models --allow-sources hf://owner,s3://bucket/team    # for "adapter": "hf://owner/..."
  $ GRAFT_BACKBONE=models graft serve --config production.yaml
  $ KEY=$(graft keys create acme) && graft serve --tenants tenants.yaml --host 0.0.0.0    # for others than this machine: docs/tenants.md

  $ curl http://127.0.0.1:8080/v1/captions -F image=@photo.jpg -F adapter=alt-text
  $ curl -N http://127.0.0.1:8080/v1/captions -F image=@photo.jpg -F adapter=alt-text -F stream=true
`;

const INSPECT_HELP = `
Examples:
  $ graft inspect models                                  what a backbone is made of
  $ graft inspect adapters/alt-text --backbone models     what an adapter holds, module by module
`;

const DOCTOR_HELP = `
Goes through what serving goes through, with serving's own code, and past the first fault to the next stage: all that does not fit is named at once,
by file and tensor, with what was expected and what came, and what to do about it where that is known. Reads headers; --deep reads every number.
Ends with 0 where everything fits, 1 where something does not, 2 where there is nothing to look at.

Examples:
  $ graft doctor models                                   a backbone: both of its checkpoints
  $ graft doctor "$(graft pull OWNER/NAME)"               a language or vision checkpoint, before it is named in a backbone.json
  $ graft doctor adapters/alt-text --backbone models      an adapter, ours or PEFT's
  $ graft doctor models --deep --json
`;

const PARAMS_HELP = `
Reads config.json only, never a weight. The fused gate_up_proj can be counted too, for models that hold gate and up as one projection.

Examples:
  $ graft params --language models/language --vision models/vision --method lora --rank 8
  $ graft params --language config.json --method lora --rank image=64,text=8 --target-modules q_proj,v_proj --json
`;

const PULL_HELP = `
Files go where huggingface_hub keeps them, and what it has is not fetched again: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN (or the file of
\`hf auth login\`) and HF_HUB_OFFLINE mean what they mean there. Each file's hash is checked. A pull that was cut goes on where it was.
Fetched are *.safetensors, *.json, *.txt, *.jinja, *.model and the licence: a repository without safetensors is refused, pickles are never read.
HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are heeded. Only the folder goes to stdout.

Examples:
  $ graft pull google/siglip-base-patch16-224              name the folder it prints as "vision" of a backbone.json
  $ graft pull HuggingFaceTB/SmolLM-135M@main              a branch, a tag or a commit; name it as "language"
  $ graft pull gpt2                                        a name that is older than owners
  $ graft serve --backbone "$(graft pull OWNER/LLAMA)"     a language checkpoint by itself: text only
  $ ln -s "$(graft pull OWNER/ADAPTER)" adapters/mine      an adapter, ours or PEFT's
  $ HF_TOKEN=hf_... graft pull OWNER/GATED --exclude "original/*"
`;

const TRAIN_HELP = `
Data is a line of JSON an image: {"image": "photos/1.jpg", "captions": ["a dog.", "a wet dog."]}. Images are encoded once and kept in --cache.
Checkpoints, log and report.html go to runs/NAME. Ctrl-C saves and says how to go on.

Examples:
  $ graft train --backbone models --data captions.jsonl --out adapters/alt-text
  $ graft train --backbone models --data captions.jsonl --out adapters/poetic --method lora --rank image=16,text=4 --epochs 5
  $ graft train --backbone models --data coco.json --images val2014 --out adapters/coco --contexts agnostic --steps 2000
  $ graft train --backbone models --data captions.jsonl --out adapters/alt-text --resume
  $ graft train --backbone models --data better.jsonl --out adapters/alt-text --run runs/better --replace
  $ graft train --backbone tiny --data stories.txt --out backbones/tiny --method full --init random
`;

const EVAL_HELP = `
Captions every image as the server would, and scores that: BLEU-1 to 4, ROUGE-L and CIDEr as coco-caption computes them, against all captions of
the data; and the perplexity of the data's own captions. Of text there is perplexity only.

Examples:
  $ graft eval --backbone models --adapter adapters/alt-text --data test.jsonl --normalize caption
  $ graft eval --backbone models --adapter adapters/alt-text --data coco.json --images val2014 --num-beams 4 --limit 500 --json
  $ graft eval --backbone backbones/tiny --data stories.txt

  $ graft eval captions --references captions_val2014.json --results results.json
`;

const EVAL_CAPTIONS_HELP = `
Needs no model: it scores captions that any model wrote. Only images that have a result count, as in coco-caption.

Examples:
  $ graft eval captions --references captions_val2014.json --results results.json
  $ graft eval --backbone models --adapter adapters/alt-text --data test.jsonl --results results.json --references references.json
  $ graft eval captions --references references.json --results results.json --json
`;

const TOP_HELP = `
Shows requests, rows, tokens a second, times to the first token and between tokens, what is in memory, and the busiest adapters and tenants, all over
the last interval. q or Ctrl-C ends it. In a pipe, or with TERM=dumb, frames are printed one below the other; NO_COLOR is heeded.
The key is one of an operator's (admin: true); a server without tenants needs none.

Examples:
  $ graft top
  $ graft top --url https://graft.example.com --key graft_...    # better in GRAFT_KEY: others see a command line
  $ graft top --once --interval 10                               # one frame over ten seconds, for a pipe
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
  for (const { flag, help, isRepeated, isToggle } of flagInfos()) {
    if (isToggle) serve.option(flag, help);
    else if (isRepeated)
      serve.option(`${flag} <value>`, help, (value: string, before?: string) => (before ? `${before},${value}` : value));
    else serve.option(`${flag} <value>`, help);
  }
  serve.action(async ({ config: file, ...flags }: ConfigSources['flags'] & { readonly config?: string }) => {
    const config = await loadConfig({ flags, env: process.env, file, folder: process.cwd() });
    const { serve } = await import('./serve.js');
    await serve(config);
  });
  graft
    .command('inspect')
    .description('What graft doctor says of a backbone or an adapter, and every module that it has.')
    .argument('<folder>', 'a backbone folder (or backbone.json), or an adapter folder')
    .option('--backbone <folder>', 'the backbone that the adapter is for')
    .addHelpText('after', INSPECT_HELP)
    .action(async (folder: string, { backbone }: { backbone?: string }) => {
      const { inspect } = await import('./inspect.js');
      const { text, faulty } = await inspect(folder, backbone);
      console.log(text);
      if (faulty) process.exitCode = 1;
    });
  graft
    .command('doctor')
    .description('Say whether a checkpoint, a backbone or an adapter will work, and all that does not fit.')
    .argument('<folder>', 'a checkpoint, a backbone (or its backbone.json), or an adapter')
    .option('--backbone <folder>', 'the backbone that the adapter is for')
    .option('--deep', 'read every number of the weights: are all finite?')
    .option('--json', 'print JSON')
    .addHelpText('after', DOCTOR_HELP)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : TROUBLE))
    .action(async (folder: string, flags: DoctorFlags) => {
      try {
        const { doctor } = await import('./doctor.js');
        const { text, fits } = await doctor(folder, flags);
        console.log(text);
        process.exitCode = fits ? 0 : 1;
      } catch (error) {
        tellFailure(error);
        process.exitCode = TROUBLE;
      }
    });
  graft
    .command('params')
    .description('Count the parameters that an adapter would train, without loading weights.')
    .requiredOption('--language <path>', 'language checkpoint folder, or its config.json')
    .option('--vision <path>', 'vision checkpoint folder, or its config.json: counts the projector')
    .option('--image-dim <number>', 'size of a vision feature, in place of --vision')
    .option('--method <method>', 'lora, bitfit, ia3, none (projector only) or full (all language weights)', 'lora')
    .option('--rank <numbers>', 'LoRA rank: 8, or image=4,text=16 (default: 8)')
    .option('--alpha <numbers>', 'LoRA alpha, likewise (default: the rank)')
    .option('--contexts <names>', 'image,text, either, or agnostic: one group for every token (default: image,text)')
    .option('--sites <names>', 'attention, ffn or both (default: both)')
    .option('--target-modules <names>', 'modules within the sites (default: all that the method can change)')
    .option('--json', 'print JSON')
    .addHelpText('after', PARAMS_HELP)
    .action(async (flags: ParamsFlags) => {
      const { params } = await import('./params.js');
      console.log(await params(flags));
    });
  graft
    .command('top')
    .description('Watch what a running server does.')
    .option('--url <url>', 'the server', 'http://127.0.0.1:8080')
    .option('--key <key>', "an operator's key, where the server has tenants (GRAFT_KEY)")
    .option('--interval <seconds>', 'between two looks at it', '2')
    .option('--once', 'print one frame, over one interval, and end')
    .addHelpText('after', TOP_HELP)
    .action(async (flags: TopFlags) => {
      const { top } = await import('./top.js');
      await top(flags, process.env);
    });
  graft.addCommand(adaptersCommand());
  graft.addCommand(keysCommand());
  const pull = graft
    .command('pull')
    .description('Fetch a model or an adapter from the Hugging Face hub, and print its folder.')
    .argument('<repository>', 'OWNER/NAME or NAME, with @REVISION or without')
    .addHelpText('after', PULL_HELP);
  pull.action(async (repository: string, flags: Readonly<Record<string, unknown>>) => {
    const { pullRepository } = await import('./pull.js');
    console.log(await pullRepository(repository, flags, process.env));
  });
  for (const [key, setting] of Object.entries<Setting<unknown>>(PULL_SETTINGS)) {
    const { flag, help } = flagOf(key, setting);
    pull.option(flag, help);
  }
  const train = graft
    .command('train')
    .description('Train an adapter on captioned images. A running server takes it up when it is there.')
    .addHelpText('after', TRAIN_HELP);
  train.action(async (flags: Readonly<Record<string, unknown>>) => {
    const { train } = await import('./train.js');
    await train(flags, process.cwd());
  });
  // The table of flags is light; what trains is loaded when it is asked for.
  for (const [key, setting] of Object.entries<Setting<unknown>>(TRAIN_SETTINGS)) {
    const heading = TRAIN_HEADINGS[key];
    if (heading !== undefined) train.optionsGroup(heading);
    const { flag, help } = flagOf(key, setting);
    if (setting.default === undefined) train.requiredOption(flag, help);
    else train.option(flag, help);
  }
  // A flag that both take belongs to the command that it stands behind.
  const evaluate = graft
    .command('eval')
    .description('Measure an adapter on captioned images; `eval captions` scores the captions of any model.')
    .enablePositionalOptions()
    .addHelpText('after', EVAL_HELP);
  evaluate.action(async (flags: Readonly<Record<string, unknown>>) => {
    const { evaluateAdapter } = await import('./eval.js');
    console.log(await evaluateAdapter(flags, process.cwd()));
  });
  const captions = evaluate
    .command('captions')
    .description("Score captions from COCO's two files, without a model.")
    .addHelpText('after', EVAL_CAPTIONS_HELP);
  captions.action(async (_flags: object, command: Command) => {
    const { evaluateFiles } = await import('./eval/captions.js');
    console.log(await evaluateFiles(command.optsWithGlobals(), process.cwd()));
  });
  // What must be given is checked with all the rest: commander would ask for the one command's flags with the other.
  for (const [command, settings] of [
    [evaluate, EVAL_SETTINGS],
    [captions, CAPTIONS_SETTINGS],
  ] as const) {
    for (const [key, setting] of Object.entries<Setting<unknown>>(settings)) {
      const { flag, help } = flagOf(key, setting);
      command.option(flag, help);
    }
  }
  return graft;
}

try {
  await program().parseAsync();
} catch (error) {
  tellFailure(error);
  process.exit(1);
}
