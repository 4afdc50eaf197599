/** `graft adapters`: its sub-commands and their flags. What they do is loaded when it is asked for. */
import { Command } from 'commander';
import type { ExportFlags } from './adapters/export.js';
import type { ImportFlags } from './adapters/import.js';
import { TROUBLE, tellFailure } from './failure.js';

const IMPORT_HELP = `
The files are copied byte for byte, and the adapter is checked in full against the backbone before anything is written. LoRA (rank_pattern,
alpha_pattern, use_rslora), IA3 and our own BitFit are taken; every feature of PEFT that would be computed wrongly is refused by name. Only safetensors is read.
A file of llama.cpp's (GGUF, made by its convert_lora_to_gguf.py, not quantized) may stand in place of a folder.

Examples:
  $ graft adapters import ~/peft/formal --out adapters/formal --backbone models
  $ graft adapters import ~/peft/look --context image --projector adapters/alt-text --out adapters/look --backbone models
  $ graft adapters import formal.gguf --out adapters/formal --backbone models
  $ graft adapters import --context image=peft/image --context text=peft/text --projector adapters/alt-text --out adapters/both --backbone models
`;

const EXPORT_HELP = `
Writes a PEFT folder a context (OUT/image, OUT/text), or OUT itself where the adapter has one context. In Python:
  PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/language"), "peft/formal/text")

Examples:
  $ graft adapters export adapters/formal --out peft/formal
  $ graft adapters export adapters/formal --out peft/formal --backbone models     refuse one that does not fit this backbone
  $ graft adapters export adapters/formal --merged --out formal --backbone models     a checkpoint that any Hugging Face server takes, for text
  $ graft adapters export adapters/formal --gguf --out formal.gguf --backbone models
  $ graft adapters export adapters/formal --merged --max-shard-size 2GB --out formal --backbone models
`;

const DIFF_HELP = `
Compares what the files say, and of the parameters what they do to the weights: for LoRA the products alpha/r B A. A share is that of the
difference in the first adapter's own change. Ends with 0 where both are equal byte for byte, 1 where they differ, 2 where one cannot be read.

Examples:
  $ graft adapters diff adapters/english adapters/pirate
  $ graft adapters diff adapters/formal peft/formal --json
`;

export function adaptersCommand(): Command {
  const adapters = new Command('adapters').description('Bring adapters in from PEFT, out to it, and compare them.');
  adapters
    .command('import')
    .description('Make an adapter of PEFT folders, one a context, or of a LoRA of llama.cpp.')
    .argument('[folder]', 'a PEFT folder (adapter_config.json and adapter_model.safetensors), or a GGUF file of a LoRA')
    .requiredOption('--out <folder>', 'folder of the adapter that comes out, such as adapters/formal')
    .requiredOption('--backbone <folder>', 'the backbone that it is for')
    .option(
      '--context <name>',
      'whose tokens it is for: text (default), image, or all for every token; or NAME=FOLDER, once for each context',
      (value: string, before: readonly string[] | undefined): readonly string[] | undefined => [...(before ?? []), value],
    )
    .option('--projector <adapter>', 'an adapter of the same backbone whose projector it takes: without one it takes no images')
    .option('--task <name>', 'what it is for, as listings tell it')
    .option('--prompt <text>', 'what a request that brings no prompt is continued from')
    .option('--replace', 'put it in the place of what is at --out')
    .addHelpText('after', IMPORT_HELP)
    .action(async (folder: string | undefined, flags: ImportFlags) => {
      const { importFolders } = await import('./adapters/import.js');
      console.log(await importFolders(folder, flags));
    });
  adapters
    .command('export')
    .description("Write an adapter as PEFT folders, one a context, as llama.cpp's file, or merged into a checkpoint.")
    .argument('<adapter>', 'the folder of an adapter')
    .requiredOption('--out <folder>', 'folder to write; with --gguf a file')
    .option(
      '--backbone <folder>',
      'check the adapter against this backbone first; with --merged, the one whose weights are taken',
    )
    .option('--merged', 'write a whole language checkpoint with the adapter in its weights, in place of PEFT folders')
    .option('--gguf', "write one context's LoRA as a file that llama.cpp loads")
    .option('--context <name>', 'with --merged or --gguf: whose parameters are written (default: text)')
    .option('--max-shard-size <size>', 'with --merged: weights of more bytes go into several files, with an index (default: 5GB)')
    .option('--replace', 'put it in the place of what is at --out')
    .addHelpText('after', EXPORT_HELP)
    .action(async (adapter: string, flags: ExportFlags) => {
      const { exportFolder } = await import('./adapters/export.js');
      const { text, notes } = await exportFolder(adapter, flags);
      for (const note of notes) console.error(note);
      console.log(text);
    });
  adapters
    .command('diff')
    .description('Tell what differs between two adapters. Ends with 0 where nothing does, 1 where something does, 2 for trouble.')
    .argument('<a>', 'the folder of an adapter')
    .argument('<b>', 'the folder of another')
    .option('--json', 'print JSON')
    .addHelpText('after', DIFF_HELP)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : TROUBLE))
    .action(async (a: string, b: string, flags: { readonly json?: boolean }) => {
      try {
        const { diffFolders } = await import('./adapters/diff.js');
        const { text, equal } = await diffFolders(a, b, flags);
        console.log(text);
        process.exitCode = equal ? 0 : 1;
      } catch (error) {
        tellFailure(error);
        process.exitCode = TROUBLE;
      }
    });
  return adapters;
}
