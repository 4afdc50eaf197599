import { describe, expect, it } from 'vitest';
import { renderReport } from '../../../../src/training/report/page.js';
import type { Report } from '../../../../src/training/report/report.js';
import { descendants, type Element, elements, parseDocument, textOf } from './document.js';
import { exampleReport } from './example.js';

const HOSTILE = `</style></title></svg>--><script>alert(1)</script><img src=x onerror="alert('1')">&lt;\0\ud800`;
const SHOWN = HOSTILE.replace(/[\0\ud800]/g, '\ufffd');

const render = (changes: Partial<Report> = {}): Element => parseDocument(renderReport(exampleReport(changes)));

const sectionsOf = (page: Element) =>
  new Map(elements(page, 'section').map((section) => [section.attributes.get('aria-labelledby'), section]));

function sectionOf(page: Element, id: string): Element {
  const section = sectionsOf(page).get(id);
  if (!section) throw new Error(`Expected a section ${id}`);
  return section;
}

const rowsOf = (section: Element) => elements(section, 'tr').map((row) => descendants(row).filter(isCell).map(textOf));
const isCell = ({ tag }: Element) => tag === 'td' || tag === 'th';
const withClass = (page: Element, name: string) =>
  descendants(page).filter(({ attributes }) => attributes.get('class')?.split(' ').includes(name));
const leadOf = (page: Element) => withClass(page, 'lead').map(textOf).join();
const trimmed = (text: string) => text.replace(/\s+/g, ' ').trim();

describe('the document', () => {
  it('forbids scripts and everything from outside', () => {
    const policy = elements(render(), 'meta').find(({ attributes }) => attributes.has('http-equiv'));
    expect(policy?.attributes.get('http-equiv')).toBe('Content-Security-Policy');
    expect(policy?.attributes.get('content')).toMatch(/^default-src 'none'; style-src 'unsafe-inline'; img-src data:;/);
  });

  it('has no reference but data, no script and no handler', () => {
    for (const element of descendants(render())) {
      expect(['script', 'link', 'iframe', 'object', 'embed', 'base', 'form', 'a', 'use', 'image']).not.toContain(element.tag);
      for (const [name, value] of element.attributes) {
        expect(name).not.toMatch(/^on|^(href|srcset|xlink.*|action|data)$/);
        if (name === 'src') expect(value).toMatch(/^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/=]*$/);
      }
    }
    expect(renderReport(exampleReport())).not.toMatch(/\/\/|url\(|@import/);
  });

  it('is the same for the same report', () => {
    expect(renderReport(exampleReport())).toBe(renderReport(exampleReport()));
  });

  it('names every section by its heading, every id once, and every figure', () => {
    const page = render();
    const ids = descendants(page).flatMap(({ attributes }) => attributes.get('id') ?? []);
    expect(new Set(ids).size).toBe(ids.length);
    expect([...sectionsOf(page).keys()]).toEqual(['curves', 'samples', 'course', 'parameters', 'configuration', 'bad-rows']);
    expect(ids).toEqual(expect.arrayContaining([...sectionsOf(page).keys()]));
    expect(elements(page, 'figure').every((figure) => elements(figure, 'figcaption').length === 1)).toBe(true);
    expect(elements(page, 'img').every(({ attributes }) => attributes.get('alt') !== undefined)).toBe(true);
  });

  it('shows hostile text as text, wherever it comes from', () => {
    const page = render({
      name: HOSTILE,
      task: HOSTILE,
      status: 'interrupted',
      backbone: { language: HOSTILE, vision: HOSTILE },
      parameters: { adapter: 1, projector: 2, frozen: 3, groups: { [HOSTILE]: 1 } },
      configuration: { [HOSTILE]: HOSTILE, list: [HOSTILE] },
      scores: { [HOSTILE]: 1 },
      badRows: [{ origin: HOSTILE, reason: HOSTILE }],
      samples: [
        { image: { mime: `image/png${HOSTILE}`, bytes: Uint8Array.of(1) }, caption: HOSTILE, references: [HOSTILE] },
        { image: { mime: 'image/svg+xml', bytes: Uint8Array.of(1) }, caption: HOSTILE.repeat(30), references: [] },
      ],
      resumeCommand: HOSTILE,
    });
    expect(elements(page, 'script')).toEqual([]);
    expect(elements(page, 'img')).toEqual([]);
    expect(elements(page, 'h1').map(textOf)).toEqual([SHOWN]);
    expect(elements(page, 'pre').map(textOf)).toEqual([SHOWN]);
    expect(textOf(page).split(SHOWN).length).toBeGreaterThan(14);
    expect(withClass(page, 'blank').map(textOf)).toEqual(['Not a JPEG, PNG or WebP image', 'Not a JPEG, PNG or WebP image']);
  });

  it('stays small: a hundred thousand steps, five thousand bad rows, captions without end', () => {
    const { points } = exampleReport();
    const page = renderReport(
      exampleReport({
        points: Array.from(
          { length: 100_000 },
          (_, step) => ({ ...(points[step % 200] ?? points[0]), step }) as Report['points'][0],
        ),
        evaluations: Array.from({ length: 1000 }, (_, index) => ({ step: index * 100, loss: 3, perplexity: 20 + (index % 7) })),
        badRows: Array.from({ length: 5000 }, (_, row) => ({ origin: `captions.jsonl:${row}`, reason: 'x'.repeat(10_000) })),
        samples: Array.from({ length: 300 }, () => ({ image: null, caption: 'c'.repeat(1e5), references: ['r'.repeat(1e5)] })),
      }),
    );
    expect(page.length).toBeLessThan(1.5 * 2 ** 20);
    expect(trimmed(textOf(parseDocument(page)))).toContain('4,800 more.');
  });
});

describe('the sentence on top', () => {
  it('says what was trained, how well and with how little', () => {
    expect(leadOf(render())).toBe(
      "A caption adapter for the task caption, trained on the frozen a-language-model, which sees through a-vision-model. At its best step, 150, the validation perplexity is 13.46. It trains 241,792 parameters, 7.66% of the language model's 3.16 M. The run took 200 steps and 1 h 12 min.",
    );
  });

  it('says that all weights were trained where nothing is frozen', () => {
    const { parameters } = exampleReport();
    expect(leadOf(render({ parameters: { ...parameters, frozen: 0 } }))).toMatch(
      /^All weights of a-language-model, which sees through a-vision-model, trained for the task caption\. At its best step/,
    );
  });

  it('says how the run ended', () => {
    expect(leadOf(render({ status: 'stopped early', steps: 1 }))).toContain(
      'The run stopped early, after 1 step and 1 h 12 min.',
    );
    expect(leadOf(render({ status: 'interrupted' }))).toContain('The run was interrupted after 200 steps');
  });

  it('without evaluations goes by the training loss', () => {
    const page = render({ evaluations: [], bestStep: null });
    expect(leadOf(page)).toMatch(/It was never evaluated; the training loss ended at (1\.9|2\.0)\d\d\./);
    expect(textOf(sectionOf(page, 'curves'))).toContain('The run was never evaluated on validation data.');
    expect(elements(sectionOf(page, 'curves'), 'figure')).toHaveLength(1);
  });

  it('finds the best step itself where none was kept', () => {
    expect(leadOf(render({ bestStep: null }))).toContain('At its best step, 150,');
  });

  it('knows a text adapter, and a run without a finite number', () => {
    const lead = leadOf(
      render({
        task: null,
        backbone: { language: 'l', vision: null },
        points: [],
        bestStep: null,
        evaluations: [{ step: 1, loss: Number.NaN, perplexity: Number.NaN }],
      }),
    );
    expect(lead).toMatch(/^A text adapter, trained on the frozen l\. No validation gave a finite perplexity\. /);
  });
});

describe('notices', () => {
  it('say how to go on, when the run was interrupted', () => {
    const resumeCommand = 'graft train --resume "a b"';
    expect(elements(render({ status: 'interrupted', resumeCommand }), 'pre').map(textOf)).toEqual([resumeCommand]);
    expect(elements(render({ status: 'finished', resumeCommand }), 'pre')).toEqual([]);
    expect(elements(render({ status: 'interrupted', resumeCommand: null }), 'pre')).toEqual([]);
  });

  it('say where the loss was lost', () => {
    const points = exampleReport().points.map((point) => (point.step > 190 ? { ...point, loss: Number.NaN } : point));
    const page = render({ points });
    expect(withClass(page, 'notice').map(textOf)).toEqual([
      'The training loss was not a finite number in 10 steps of 200, first in step 191.',
    ]);
    expect(textOf(sectionOf(page, 'curves'))).toContain('Left out as not finite: training, 10 of 200 values.');
  });
});

describe('the charts', () => {
  it('are five, all over the same steps', () => {
    const labels = elements(render(), 'svg').flatMap(({ attributes }) => attributes.get('aria-label') ?? []);
    expect(labels.map((label) => label.replace(/ from step 1 to 200: .*/, ''))).toEqual([
      'Loss (nats per token)',
      'Validation perplexity (lower is better)',
      'Learning rate (per update)',
      'Gradient norm (L2)',
      'Speed (tokens/s)',
    ]);
  });

  it('take what a resumed run did last', () => {
    const [first, second] = exampleReport().points;
    const page = render({
      points: [first, { ...second, step: 1, loss: 99 }].filter((point) => point !== undefined) as Report['points'],
    });
    expect(textOf(sectionOf(page, 'curves'))).toContain('training 99');
  });

  it('can be drawn from nothing, one step, and values that no axis holds', () => {
    expect(textOf(sectionOf(render({ points: [], evaluations: [], bestStep: null }), 'curves'))).toContain('No finite value');
    expect(elements(render({ points: exampleReport().points.slice(0, 1), evaluations: [] }), 'circle')).toHaveLength(4);
    const wild = exampleReport().points.map((point, index) => ({ ...point, loss: index === 7 ? Number.MAX_VALUE : 1e-320 }));
    const page = renderReport(exampleReport({ points: wild }));
    expect(page).not.toMatch(/="[^"]*(NaN|Infinity)/);
    expect(page).toContain('Left out as not finite: training, 1 of 200 values.');
  });

  it('list all evaluations, the best one marked', () => {
    const rows = rowsOf(sectionOf(render(), 'curves')).map((row) => row.map(trimmed));
    expect(rows[3]).toEqual(['150 best', '2.600', '13.46']);
    expect(rows).toHaveLength(5);
  });
});

describe('the figures', () => {
  it('are in the order in which one asks for them', () => {
    const figures = elements(render(), 'dt').map(textOf);
    expect(figures).toEqual(['Validation perplexity', 'CIDEr', 'BLEU-4', 'Training loss', 'Trained', 'Steps', 'Time']);
    expect(elements(render(), 'dd').map(textOf).map(trimmed).slice(0, 3)).toEqual([
      '13.46 loss 2.600, step 150',
      '0.4127 validation captions',
      '0.1800 validation captions',
    ]);
  });
});

describe('the tables', () => {
  it('split the parameters, with bars as long as their shares', () => {
    const section = sectionOf(render(), 'parameters');
    expect(rowsOf(section).map((row) => row.map(trimmed))).toEqual([
      ['Group', 'Parameters', 'Of trained'],
      ['image adapter', '38,912', '16.1%'],
      ['text adapter', '38,912', '16.1%'],
      ['projector', '163,968', '67.8%'],
      ['All trained 7.66% of the language model', '241,792', '100%'],
      ['Frozen backbone a-language-model a-vision-model', '3,157,184', ''],
    ]);
    const widths = descendants(section).flatMap(({ attributes }) => attributes.get('style') ?? []);
    expect(widths).toEqual(['width:16.09%', 'width:16.09%', 'width:67.81%']);
  });

  it('say settings in words', () => {
    expect(rowsOf(sectionOf(render(), 'configuration'))).toEqual([
      ['method', 'lora'],
      ['rank', '8'],
      ['contexts', 'image, text'],
      ['drop partial batches', 'no'],
      ['patience', 'none'],
    ]);
  });

  it('fold what is long', () => {
    const long = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`setting ${index}`, index]));
    const isOpen = (page: Element) => elements(sectionOf(page, 'configuration'), 'details')[0]?.attributes.has('open');
    expect(isOpen(render())).toBe(true);
    expect(isOpen(render({ configuration: long }))).toBe(false);
  });

  it('list rows that could not be used', () => {
    expect(rowsOf(sectionOf(render(), 'bad-rows'))[1]).toEqual(['captions.jsonl:118', 'Expected a caption but received ""']);
  });
});

describe('samples', () => {
  it('have their image inside, or say that there is none', () => {
    const page = render();
    expect(elements(page, 'img').map(({ attributes }) => attributes.get('src'))).toEqual(['data:image/png;base64,iVBORw==']);
    expect(withClass(page, 'blank').map(textOf)).toEqual(['No image']);
    expect(withClass(page, 'caption').map(textOf)).toEqual(['a dog runs in the snow.', 'a house by the sea.']);
    expect(elements(page, 'li').map(textOf)).toEqual(['A dog in snow.', 'Snow, and a dog.', 'A running dog.']);
  });

  it('take the bytes of a view, not of the buffer behind it', () => {
    const bytes = Uint8Array.of(0, 0, 137, 80, 78, 71, 0).subarray(2, 6);
    const page = render({ samples: [{ image: { mime: 'image/png', bytes }, caption: 'a', references: [] }] });
    expect(elements(page, 'img')[0]?.attributes.get('src')).toBe('data:image/png;base64,iVBORw==');
  });

  it('leave images out that would make the page too large for a mail', () => {
    const image = { mime: 'image/jpeg', bytes: new Uint8Array(3 * 2 ** 20) };
    const page = renderReport(
      exampleReport({ samples: Array.from({ length: 4 }, () => ({ image, caption: 'a', references: [] })) }),
    );
    expect(page.split('<img ')).toHaveLength(3);
    expect(page.split('this page would become too large')).toHaveLength(3);
  });

  it('fold a long caption, and name an empty one', () => {
    const caption = 'very long '.repeat(100);
    const page = render({
      samples: [
        { image: null, caption, references: [] },
        { image: null, caption: ' ', references: [] },
      ],
    });
    const [long, empty] = withClass(page, 'caption');
    expect(long?.tag).toBe('details');
    expect(long && elements(long, 'p').map(textOf)).toEqual([caption]);
    expect(empty && textOf(empty)).toBe('An empty caption');
  });
});

describe('parts that a run does not have', () => {
  it('are not there', () => {
    const page = render({ samples: [], badRows: [], configuration: {}, scores: null });
    expect([...sectionsOf(page).keys()]).toEqual(['curves', 'course', 'parameters']);
  });
});
