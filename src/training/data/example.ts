/** What every reader of datasets gives, whatever the files look like: examples to train on, and the rows that are none, with the reason. */

export interface Example {
  /** Absolute path of the image; null in a text-only dataset. */
  readonly image: string | null;
  /** At least one, normalised, none empty. */
  readonly captions: readonly string[];
  /** Where it came from, for messages: `captions.jsonl:12` (file name and 1-based line), or `annotations[3]` in a JSON file. */
  readonly origin: string;
}

export interface BadRow {
  readonly origin: string;
  /** "Expected ... but received ..." */
  readonly reason: string;
}

export interface Dataset {
  readonly examples: readonly Example[];
  readonly bad: readonly BadRow[];
}
