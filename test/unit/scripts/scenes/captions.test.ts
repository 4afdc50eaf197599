/**
 * Captions say the truth, and their judge knows: what is written of a scene is right there and wrong of any that differs. Sentences of a
 * person are judged too, and the grammar of both foreign languages is held against tables that are written here, not those that it uses.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Aspect, captionsOf, TASK_NAMES, type Task } from '../../../../scripts/scenes/captions.js';
import { isRight, judge } from '../../../../scripts/scenes/judge.js';
import { pick } from '../../../../src/scenes/dice.js';
import { drawScene } from '../../../../src/scenes/scene.js';
import { BACKGROUNDS, COLOURS, type Group, KINDS, MAX_COUNT, type Scene } from '../../../../src/scenes/world.js';
import { stream } from '../../../../src/training/random.js';

const seeds = fc.integer({ min: 0, max: 2 ** 31 });

/** Two red boats left of a small yellow house at sea, and a large white moon above them. */
const box = (left: number, top: number, width: number, height: number) => ({ left, top, width, height });
const boats: Group = {
  kind: 'boat',
  colour: 'red',
  size: 'medium',
  stand: 'ground',
  count: 2,
  box: box(0.1, 0.55, 0.4, 0.2),
  items: [box(0.1, 0.55, 0.18, 0.2), box(0.32, 0.55, 0.18, 0.2)],
};
const house: Group = {
  kind: 'house',
  colour: 'yellow',
  size: 'small',
  stand: 'ground',
  count: 1,
  box: box(0.7, 0.55, 0.2, 0.2),
  items: [box(0.7, 0.55, 0.2, 0.2)],
};
const harbour: Scene = { background: 'sea', horizon: 0.5, groups: [boats, house] };

function wrong(task: Task, caption: string, scene = harbour): Aspect[] {
  return (Object.entries(judge(task, caption, scene)) as [Aspect, boolean][])
    .filter(([, right]) => !right)
    .map(([aspect]) => aspect);
}

/** The scene with one group changed in one way. */
const CHANGES: Readonly<Record<'objects' | 'colours' | 'counts', (group: Group, scene: Scene, random: () => number) => Group>> = {
  objects: (group, { groups }, random) => ({
    ...group,
    kind: pick(
      random,
      KINDS.filter((kind) => groups.every((other) => other.kind !== kind)),
    ),
  }),
  colours: (group, { groups }, random) => ({
    ...group,
    colour: pick(
      random,
      COLOURS.filter((colour) => groups.every((other) => other.colour !== colour)),
    ),
  }),
  counts: (group, _, random) => ({
    ...group,
    count: pick(
      random,
      Array.from({ length: MAX_COUNT }, (_, index) => index + 1).filter((count) => count !== group.count),
    ),
  }),
};

describe.each(TASK_NAMES)('%s', (task) => {
  it('is right of its own scene', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const scene = drawScene(stream(seed, 'scene'));
        const captions = captionsOf(task, scene, stream(seed, task));
        expect(captions.length).toBeGreaterThanOrEqual(1);
        expect(new Set(captions).size).toBe(captions.length);
        for (const caption of captions) expect({ caption, wrong: wrong(task, caption, scene) }).toEqual({ caption, wrong: [] });
      }),
      { numRuns: 300 },
    );
  });

  it('is wrong of a scene with another kind, colour or count', () => {
    const asked = Object.keys(judge(task, '', harbour)) as Aspect[];
    fc.assert(
      fc.property(seeds, (seed) => {
        const scene = drawScene(stream(seed, 'scene'));
        const random = stream(seed, 'change');
        const changed = pick(random, scene.groups);
        for (const aspect of ['objects', 'colours', 'counts'] as const) {
          if (!asked.includes(aspect)) continue;
          const groups = scene.groups.map((group) => (group === changed ? CHANGES[aspect](group, scene, random) : group));
          for (const caption of captionsOf(task, scene, stream(seed, task)))
            expect(wrong(task, caption, { ...scene, groups }), `${aspect}: ${caption}`).toContain(aspect);
        }
        if (asked.includes('background')) {
          const background = pick(
            random,
            BACKGROUNDS.filter((other) => other !== scene.background),
          );
          for (const caption of captionsOf(task, scene, stream(seed, task)))
            expect(wrong(task, caption, { ...scene, background })).toEqual(['background']);
        }
      }),
      { numRuns: 150 },
    );
  });

  it('has nothing right in an empty caption', () => {
    expect(isRight(judge(task, '', harbour))).toBe(false);
    expect(judge(task, '', harbour).words).toBe(false);
  });
});

describe('judge', () => {
  it.each<[Task, string]>([
    ['english', 'two red boats on the sea, to the left of a small yellow house.'],
    ['english', 'Two red ships at sea and a tiny yellow cottage to the right of the ships'],
    ['french', "deux bateaux rouges sur la mer, à gauche d'une petite maison jaune."],
    ['french', 'une petite maison jaune à droite de deux bateaux rouges en mer'],
    ['german', 'zwei rote Boote auf dem Meer, links von einem kleinen gelben Haus.'],
    ['german', 'Auf dem Wasser ist rechts von zwei roten Schiffen ein kleines gelbes Haus'],
    ['pirate', 'arr, two red ships on the seven seas, to port of a wee yellow tavern!'],
    ['counting', 'two boats, one house.'],
    ['counting', '1 house and 2 boats'],
    ['colours', 'red, yellow.'],
    ['relations', 'the boats are left of the house.'],
    ['alt', 'a yellow house and two red boats on the water'],
    ['tags', 'red boat, yellow house, sea'],
  ])('takes for right in %s: %s', (task, caption) => {
    expect(wrong(task, caption)).toEqual([]);
  });

  it.each<[Task, string, Aspect[]]>([
    ['english', 'two red cars on the sea, to the left of a small yellow house.', ['objects', 'colours', 'counts', 'relations']],
    ['english', 'two yellow boats on the sea, to the left of a small red house.', ['colours']],
    ['english', 'two red boats on the sea, to the left of a big yellow house.', ['sizes']],
    ['english', 'two small red boats on the sea, to the left of a small yellow house.', ['sizes']],
    ['english', 'three red boats on the sea, to the left of a small yellow house.', ['counts']],
    ['english', 'two red boat on the sea, to the left of a small yellow house.', ['counts']],
    ['english', 'two red boats on the sea, to the right of a small yellow house.', ['relations']],
    ['english', 'two red boats on the sea and a small yellow house.', ['relations']],
    ['english', 'two red boats in a meadow, to the left of a small yellow house.', ['background']],
    [
      'english',
      'two red boots on the sea, to the left of a small yellow house.',
      ['objects', 'colours', 'counts', 'relations', 'words'],
    ],
    [
      'french',
      'two red boats on the sea, to the left of a small yellow house.',
      ['objects', 'colours', 'counts', 'sizes', 'relations', 'background', 'words'],
    ],
    ['french', "deux bateaux jaunes sur la mer, à gauche d'une petite maison rouge.", ['colours']],
    ['german', 'zwei rote Boote auf dem Meer, rechts von einem kleinen gelben Haus.', ['relations']],
    ['counting', 'two boats.', ['objects', 'counts']],
    ['counting', 'two boats, two houses.', ['counts']],
    ['colours', 'red.', ['colours']],
    ['colours', 'red, yellow, blue.', ['colours']],
    ['relations', 'the house is behind the boats.', ['relations']],
    ['tags', 'red boat, yellow house', ['background']],
    ['tags', 'yellow boat, red house, sea', ['colours']],
  ])('finds in %s, "%s": %j', (task, caption, aspects) => {
    expect(wrong(task, caption)).toEqual(aspects);
  });
});

/** Captions of many scenes. */
function corpus(task: Task): string[] {
  return Array.from({ length: 600 }, (_, seed) => captionsOf(task, drawScene(stream(seed, 'scene')), stream(seed, task))).flat();
}

describe('French grammar', () => {
  const FEMININE = 'maison voiture lune étoile balle fleur personne chaise'.split(' ');
  const MASCULINE = 'arbre bateau soleil nuage chat chien oiseau poisson ballon parapluie champignon'.split(' ');
  const captions = corpus('french');

  it('agrees in gender and number', () => {
    let seen = 0;
    for (const caption of captions)
      for (const [text, number, before, noun, colour] of caption.matchAll(
        /(une?|deux|trois|quatre|cinq) (?:(petite?s?|grande?s?) )?(\p{L}+) (rouges?|orange|jaunes?|vert\p{L}*|bleu\p{L}*|violet\p{L}*|blanc\p{L}*|noir\p{L}*)/gu,
      )) {
        seen++;
        const many = !/^une?$/.test(number as string);
        const one = many ? (noun as string).replace(/(?<=eau)x$|s$/, '') : (noun as string);
        const feminine = FEMININE.includes(one);
        expect(feminine || MASCULINE.includes(one), text).toBe(true);
        if (!many) expect(number, text).toBe(feminine ? 'une' : 'un');
        if (many) expect(noun, text).toBe(one.endsWith('eau') ? `${one}x` : `${one}s`);
        const ending = (feminine ? 'e' : '') + (many ? 's' : '');
        if (before) expect(before.replace(/^(petit|grand)/, ''), text).toBe(ending);
        const forms: Readonly<Record<string, string>> = {
          r: `rouge${many ? 's' : ''}`,
          o: 'orange',
          j: `jaune${many ? 's' : ''}`,
          ve: `vert${ending}`,
          bleu: `bleu${ending}`,
          vi: `violet${feminine ? 't' : ''}${ending}`,
          blan: `blanc${feminine ? 'h' : ''}${ending}`,
          n: `noir${ending}`,
        };
        expect(Object.entries(forms).find(([start]) => colour?.startsWith(start))?.[1], text).toBe(colour);
      }
    expect(seen).toBeGreaterThan(captions.length);
  });

  it('melts and elides', () => {
    for (const caption of captions) {
      expect(caption).not.toMatch(/\b(de une?|de les?|le [aeiouéè]|la [aeiouéè]|de la (arbre|étoile)|sous d)\b/u);
      expect(caption).not.toMatch(
        /\b(gauche|droite|côté|dessus|dessous) (?!d'|de |du |des )(une?|deux|trois|quatre|cinq|le|la|les)\b/u,
      );
    }
  });
});

describe('German grammar', () => {
  const GENDERS: Readonly<Record<string, 'm' | 'f' | 'n'>> = Object.fromEntries([
    ...'Baum Mond Stern Hund Vogel Fisch Ball Stuhl Regenschirm Pilz'.split(' ').map((noun) => [noun, 'm']),
    ...'Sonne Wolke Katze Blume Person'.split(' ').map((noun) => [noun, 'f']),
    ...'Haus Boot Schiff Auto'.split(' ').map((noun) => [noun, 'n']),
  ]);
  const captions = corpus('german');
  const PREPOSITION = /(?:links von|rechts von|über|unter|vor|hinter|neben) $/u;

  it('declines articles and adjectives by gender and case', () => {
    const seen = new Set<string>();
    for (const caption of captions)
      for (const match of caption.matchAll(/(?<!\p{L})(ein\p{L}*) ((?:\p{Ll}+ )+)(\p{Lu}\p{L}+)/gu)) {
        const [text, article, adjectives, noun] = match as unknown as [string, string, string, string];
        const gender = GENDERS[noun];
        expect(Object.keys(GENDERS), text).toContain(noun);
        const before = caption.slice(0, match.index);
        const object = PREPOSITION.test(before) ? 'dative' : before.includes('sieht man') ? 'accusative' : 'nominative';
        const [expected, ending] = {
          nominative: { m: ['ein', 'er'], f: ['eine', 'e'], n: ['ein', 'es'] },
          accusative: { m: ['einen', 'en'], f: ['eine', 'e'], n: ['ein', 'es'] },
          dative: { m: ['einem', 'en'], f: ['einer', 'en'], n: ['einem', 'en'] },
        }[object][gender ?? 'm'] as [string, string];
        expect(article, `${caption}: ${text}`).toBe(expected);
        for (const adjective of adjectives.trim().split(' '))
          expect(adjective, text).toMatch(
            new RegExp(`^(klein|winzig|groß|riesig|rot|orangefarben|gelb|grün|blau|violett|weiß|schwarz)${ending}$`, 'u'),
          );
        seen.add(`${object} ${gender}`);
      }
    expect(seen.size).toBe(9);
  });

  it('declines what is counted', () => {
    const PLURALS =
      'Häuser Bäume Boote Schiffe Autos Sonnen Monde Sterne Wolken Katzen Hunde Vögel Fische Bälle Blumen Personen Stühle Regenschirme Pilze'.split(
        ' ',
      );
    const DATIVES =
      'Häusern Bäumen Booten Schiffen Autos Sonnen Monden Sternen Wolken Katzen Hunden Vögeln Fischen Bällen Blumen Personen Stühlen Regenschirmen Pilzen'.split(
        ' ',
      );
    for (const caption of captions) {
      for (const match of caption.matchAll(/(zwei|drei|vier|fünf) ((?:\p{Ll}+ )+)(\p{Lu}\p{L}+)/gu)) {
        const [text, , adjectives, noun] = match as unknown as [string, string, string, string];
        const dative = PREPOSITION.test(caption.slice(0, match.index));
        expect(dative ? DATIVES : PLURALS, text).toContain(noun);
        for (const adjective of adjectives.trim().split(' '))
          expect(adjective.endsWith('en'), `${caption}: ${text}`).toBe(dative || adjective === 'orangefarben');
      }
      expect(caption).not.toMatch(/von dem |von den (?!\p{L}+[ns][ ,.])/u);
      for (const [text, noun] of caption.matchAll(
        /(?:vom|dem|über der|unter der|neben der|vor der|hinter der|von der|den) (\p{Lu}\p{L}+)/gu,
      )) {
        const gender = GENDERS[noun as string];
        if (gender === undefined) continue;
        expect(/ der /.test(` ${text}`), text).toBe(gender === 'f');
      }
    }
  });
});
