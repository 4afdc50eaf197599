/** A training file as it is kept: what its owner is told, and what was found in it when it came. */
import { z } from 'zod';

export const FileJson = z.strictObject({
  id: z.string(),
  /** Its owner; empty where there are no tenants. */
  tenant: z.string(),
  filename: z.string(),
  bytes: z.int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Milliseconds since 1970. */
  createdAt: z.int().nonnegative(),
  rows: z.int().positive(),
  hasImages: z.boolean(),
  prompt: z.string(),
});

export type TrainingFile = Readonly<z.infer<typeof FileJson>>;
