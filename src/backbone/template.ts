/**
 * A checkpoint's own way to write a conversation as one text: the Jinja template beside its tokenizer, as transformers' apply_chat_template applies
 * it. It is part of the checkpoint, and trusted as that is; what a conversation says is only ever its data.
 */
import path from 'node:path';
import { Template } from '@huggingface/jinja';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { quote } from '../tensor/json.js';
import { parseWith, readJson, readOptionalText } from './config.js';

export interface Turn {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

const CONFIG = 'tokenizer_config.json';
const FILE = 'chat_template.jinja';
/** The template of a conversation, where a checkpoint has others beside it, for tools or documents. */
const USUAL = 'default';

const Token = z.union([z.string(), z.looseObject({ content: z.string() })], {
  error: ({ input }) => `Expected a token, or an object with its content, but received ${quote(input)}`,
});
const ChatConfig = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))], {
      error: ({ input }) => `Expected a template, or a list of named ones, but received ${quote(input)}`,
    })
    .nullish(),
});

export class ChatTemplate {
  readonly #template: Template;
  /** `bos_token`, `eos_token` and what else the tokenizer names. */
  readonly #tokens: Readonly<Record<string, string>>;

  private constructor(template: Template, tokens: Readonly<Record<string, string>>) {
    this.#template = template;
    this.#tokens = tokens;
  }

  /** The template of a checkpoint folder, which may stand in a file of its own; null where it has none. Throws `invalid_file` for one that cannot be read. */
  static async open(folder: string): Promise<ChatTemplate | null> {
    const config = (await readJson(folder, CONFIG)) ?? {};
    const { chat_template: given, ...rest } = parseWith(ChatConfig, config, path.join(folder, CONFIG));
    const inConfig = typeof given === 'string' ? given : given?.find(({ name }) => name === USUAL)?.template;
    const inFile = await readOptionalText(path.join(folder, FILE));
    const text = inFile ?? inConfig;
    if (text === undefined) return null;
    const file = path.join(folder, inFile === undefined ? CONFIG : FILE);
    return new ChatTemplate(parse(text, file), tokensOf(rest));
  }

  /** The text that an answer goes on from, special tokens included. Throws `invalid_request` where the template refuses the conversation. */
  render(turns: readonly Turn[]): string {
    const values = { messages: turns, add_generation_prompt: true, tools: null, documents: null };
    try {
      return this.#template.render({ ...this.#tokens, ...values });
    } catch (error) {
      const reason = (error as Error).message;
      throw new AppError(
        'invalid_request',
        `messages: Expected a conversation that this backbone's chat template takes but received one that it refuses: ${reason}`,
        { param: 'messages', cause: error },
      );
    }
  }
}

function parse(text: string, file: string): Template {
  try {
    return new Template(text);
  } catch (error) {
    const reason = (error as Error).message;
    throw new AppError('invalid_file', `${file}: Expected a chat template that can be read but received: ${reason}`, {
      cause: error,
    });
  }
}

function tokensOf(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const named = Object.entries(config).flatMap(([name, value]) => {
    const token = name.endsWith('_token') ? Token.safeParse(value).data : undefined;
    return token === undefined ? [] : [[name, typeof token === 'string' ? token : token.content] as const];
  });
  return Object.fromEntries(named);
}
