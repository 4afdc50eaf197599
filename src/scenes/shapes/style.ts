/** How a picture is drawn, chosen once a picture: it looks like one hand's work, and the next like another's. */
import { between, chance, pick, type Random, weighted } from '../dice.js';
import { contrast, lighter, shadeOf, type Tone, tone } from './tone.js';

export type Outline = 'ink' | 'own' | 'chalk' | 'sticker' | 'none';
export type Fill = 'flat' | 'gradient' | 'glow' | 'hatch' | 'dots' | 'crayon';

/** Lengths in hundredths of the picture's edge. */
export interface Style {
  readonly outline: Outline;
  readonly lineWidth: number;
  /** How far a point of a shape strays. */
  readonly jitter: number;
  readonly fill: Fill;
  readonly ink: Tone;
  readonly dashed: boolean;
  readonly shadows: boolean;
}

export function drawStyle(random: Random): Style {
  const outline = weighted(random, ['ink', 'own', 'none', 'sticker', 'chalk'] as const, [0.38, 0.2, 0.2, 0.12, 0.1]);
  return {
    outline,
    lineWidth: between(random, 0.6, outline === 'ink' ? 1.35 : 1.1),
    jitter: chance(random, 0.45) ? 0 : between(random, 0.15, 0.55),
    fill: weighted(random, ['flat', 'gradient', 'glow', 'hatch', 'dots', 'crayon'] as const, [0.3, 0.22, 0.12, 0.13, 0.09, 0.14]),
    ink: pick(random, [tone(230, 25, 12), tone(20, 30, 14), tone(0, 0, 8), tone(265, 30, 18)]),
    dashed: outline === 'ink' && chance(random, 0.07),
    shadows: chance(random, 0.4),
  };
}

/** Below this a thing is lost on its ground. */
const PLAIN = 0.3;
const DARK = tone(230, 20, 12);
const LIGHT = tone(210, 20, 97);

/**
 * The line around a thing of this colour on this ground, and its halo. Null for none. What would be lost on its ground gets one whatever the
 * style says, in the tone that stands out from both.
 */
export function linesFor(body: Tone, ground: Tone, { outline, ink }: Style): { line: Tone | null; halo: Tone | null } {
  const stark = [DARK, LIGHT].reduce((a, b) => (worst(a, body, ground) >= worst(b, body, ground) ? a : b));
  const plain = contrast(body, ground) >= PLAIN;
  const visible = (line: Tone): boolean => plain || worst(line, body, ground) >= 0.22;
  switch (outline) {
    case 'none':
      return { line: plain ? null : stark, halo: null };
    case 'sticker':
      return { line: body.l > 80 ? ink : shadeOf(body, 22), halo: LIGHT };
    case 'chalk':
      return { line: visible(LIGHT) ? LIGHT : stark, halo: null };
    case 'own': {
      const own = body.l > 80 ? lighter(body, -38) : shadeOf(body, 20);
      return { line: visible(own) ? own : stark, halo: null };
    }
    default:
      return { line: visible(ink) ? ink : stark, halo: null };
  }
}

function worst(line: Tone, body: Tone, ground: Tone): number {
  return Math.min(contrast(line, body), contrast(line, ground));
}
