/**
 * What to do about a fault, where that is known. The faults are the loaders' own sentences, which know what is wrong and not where the user
 * got it from; a rule here is found by words of such a sentence, and a test holds that each still finds one.
 */

const WITHOUT_QUANTIZATION =
  'take the checkpoint that this one was made of, with weights in float32, float16 or bfloat16: packed weights are not unpacked';
const ANOTHER_MODEL =
  'config.json and weights are of two models, or a part of one was saved: take both files from the same folder, as save_pretrained leaves it';

export const ADVICE: readonly (readonly [RegExp, string])[] = [
  [
    /pickle can run any program/,
    'convert to safetensors, in Python: AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER), with the class that the model is used with',
  ],
  [/Expected a file config\.json/, 'a checkpoint is the folder that save_pretrained leaves, or that graft pull prints'],
  [
    /Expected a file tokenizer\.json/,
    'write it, in Python: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER); tokenizers without a fast version have none',
  ],
  [/beginning-of-sequence token/, 'name the token that every text begins with as "bos_token_id" in config.json'],
  [
    /Expected a file preprocessor_config\.json/,
    'take it from the model of the same name on the hub: without it nobody knows how its pictures were resized and scaled',
  ],
  [
    /Expected an image processor of|\(not implemented\)|do_center_crop: Expected one output size/,
    'write the same steps in words that are known: size, resample, do_center_crop, crop_size, image_mean and image_std',
  ],
  [
    /positions of \S+ are not interpolated/,
    'set size (and crop_size) in preprocessor_config.json to the image_size of config.json',
  ],
  [
    /Expected a (language|vision) model_type/,
    'only these families are built (docs/families.md); an encoder is "vision" in backbone.json, a decoder "language"',
  ],
  [
    /Expected rotary positions of type/,
    'take a checkpoint of the family without that scaling: without it these weights would compute something else',
  ],
  [/(quantization|compression)_config: /, WITHOUT_QUANTIZATION],
  [/received unknown dtype "F8|to be float32, float16 or bfloat16 but received/, WITHOUT_QUANTIZATION],
  [/Expected a readable file but received Error: ENOENT/, 'fetch the shard that is missing: graft pull goes on where it was'],
  [
    /within the (file's )?\d+ bytes|Expected at least 8 bytes|trailing bytes/,
    'the file is cut short, or was written by halves: fetch it again',
  ],
  [/Expected a tensor \S+ of \[|Expected \S+\.(weight|bias) to be \[/, ANOTHER_MODEL],
  [
    /Expected finite numbers/,
    'such a number spoils every answer: fetch the file again, or go back to a checkpoint from before the training failed',
  ],
  [
    /of fingerprint sha256:/,
    'it was trained on other weights: name that checkpoint with --backbone, or train it again, from here with graft train --from',
  ],
  [
    /to be off, because it is not implemented/,
    'merge it into its model with PEFT (merge_and_unload) and serve that, or train it again without this',
  ],
  [
    /target_modules (among|to match)/,
    'it was made for a model of another family: --backbone must be the one that base_model_name_or_path names',
  ],
  [
    /(lora_[AB]|ia3_l|bias) of \S+ to be \[/,
    'r and rank_pattern must be those of the tensors, and --backbone the model that it was trained on',
  ],
  [/Expected contexts among/, 'an adapter for images needs a backbone with a vision encoder: "vision" in backbone.json'],
  [
    /adapter_model\.safetensors: Expected a file but received none/,
    'where there is an adapter_model.bin, open it with PEFT and save it: save_pretrained writes safetensors, and pickle is never read',
  ],
];

/** The advice of the first rule that knows a sentence. */
export function adviceFor(sentence: string): string | undefined {
  return ADVICE.find(([words]) => words.test(sentence))?.[1];
}
