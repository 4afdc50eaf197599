/**
 * Which of an encoder's states are its features, in LLaVA's words (transformers' configuration_llava.py): `vision_feature_layer` is an
 * index of `hidden_states`, none of which has been through the last norm, and `vision_feature_select_strategy` says whether the class
 * token is among them. `last_hidden_state` is what transformers calls so, which for some families has been through that norm.
 */
import { z } from 'zod';
import { AppError } from '../../errors.js';

const LAYER_FIELD = 'vision_feature_layer';
const SELECT_FIELD = 'vision_feature_select_strategy';
export const LAST = 'last_hidden_state';
/** Without the class token, and with it. */
const SELECTS = ['default', 'full'] as const;

const received = ({ input }: { readonly input?: unknown }) => `but received ${JSON.stringify(input) ?? 'nothing'}`;

/** The fields of a file that asks. Which layers there are, only the encoder knows. */
export const featureFields = {
  [LAYER_FIELD]: z
    .union([z.int(), z.literal(LAST)], { error: (issue) => `Expected a whole number or "${LAST}" ${received(issue)}` })
    .nullish(),
  [SELECT_FIELD]: z
    .enum(SELECTS, { error: (issue) => `Expected ${SELECTS.map((name) => `"${name}"`).join(' or ')} ${received(issue)}` })
    .nullish(),
};

/** What was asked for; where something is absent, the family decides. */
export interface FeatureChoice {
  /** The file that asks; it opens error messages. */
  readonly file: string;
  readonly layer?: number | typeof LAST;
  readonly select?: (typeof SELECTS)[number];
}

/** The choice that a file's fields make; undefined where they make none. */
export function choiceOf(file: string, fields: z.output<z.ZodObject<typeof featureFields>>): FeatureChoice | undefined {
  const { [LAYER_FIELD]: layer, [SELECT_FIELD]: select } = fields;
  if (layer == null && select == null) return undefined;
  return { file, ...(layer == null ? {} : { layer }), ...(select == null ? {} : { select }) };
}

/** The same fields again, those that are there. */
export function choiceFields({ layer, select }: Omit<FeatureChoice, 'file'>): Readonly<Record<string, number | string>> {
  return {
    ...(layer === undefined ? {} : { [LAYER_FIELD]: layer }),
    ...(select === undefined ? {} : { [SELECT_FIELD]: select }),
  };
}

/** What a transformer's graph gives. */
export interface Features {
  /** Blocks before it: those after are not built. */
  readonly layers: number;
  /** Whether the last norm is applied. */
  readonly normed: boolean;
  /** Whether the tokens before the patches come out as well. */
  readonly withTokens: boolean;
}

/** A family's side of the choice. */
export interface FeatureOffer {
  readonly family: string;
  readonly layerCount: number;
  readonly hasClassToken: boolean;
  /** Whether its last_hidden_state has been through the last norm. */
  readonly lastIsNormed: boolean;
  readonly layer: number | typeof LAST;
}

/** The features of a choice, and a name for them where they are not those of the family. Throws `invalid_file` with every fault. */
export function chooseFeatures(choice: FeatureChoice | undefined, offer: FeatureOffer): Features & { readonly label?: string } {
  const { family, layerCount, hasClassToken, lastIsNormed } = offer;
  const { layer = offer.layer, select = 'default' } = choice ?? {};
  const faults: string[] = [];
  if (typeof layer === 'number' && (layer < -layerCount - 1 || layer > layerCount))
    faults.push(
      `${LAYER_FIELD}: Expected "${LAST}" or a number from ${-layerCount - 1} to ${layerCount}, the states of ${family}, but received ${layer}`,
    );
  if (select === 'full' && !hasClassToken)
    faults.push(`${SELECT_FIELD}: Expected "default", because ${family} has no class token, but received "full"`);
  // A family's own features are always there.
  if (choice && faults.length > 0) throw AppError.ofFaults('invalid_file', choice.file, faults);

  const resolve = (wanted: FeatureOffer['layer']): Pick<Features, 'layers' | 'normed'> =>
    wanted === LAST
      ? { layers: layerCount, normed: lastIsNormed }
      : { layers: wanted < 0 ? layerCount + 1 + wanted : wanted, normed: false };
  const features = { ...resolve(layer), withTokens: select === 'full' };
  const own = resolve(offer.layer);
  if (features.layers === own.layers && features.normed === own.normed && !features.withTokens) return features;
  // A name is part of fingerprints: it says the same of the same features, however they were asked for.
  return { ...features, label: `${features.normed ? LAST : `layer ${features.layers}`}, ${select}` };
}

/** Faults of a choice, each by its field, where there is nothing to choose. */
export function choiceFaults(choice: FeatureChoice, because: string): string[] {
  return Object.entries(choiceFields(choice)).map(
    ([field, value]) => `${field}: Expected none, because ${because}, but received ${JSON.stringify(value)}`,
  );
}
