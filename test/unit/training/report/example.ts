/** A small run with everything in it; tests change what they are about. */
import type { Report } from '../../../../src/training/report/report.js';

export function exampleReport(changes: Partial<Report> = {}): Report {
  return {
    name: 'alt-text',
    task: 'caption',
    status: 'finished',
    createdAt: new Date(Date.UTC(2026, 2, 12, 14, 5)),
    seconds: 4320,
    steps: 200,
    tokens: 1_200_000,
    backbone: { language: 'a-language-model', vision: 'a-vision-model' },
    parameters: { adapter: 77_824, projector: 163_968, frozen: 3_157_184, groups: { image: 38_912, text: 38_912 } },
    configuration: { method: 'lora', rank: 8, contexts: ['image', 'text'], 'drop partial batches': false, patience: null },
    points: Array.from({ length: 200 }, (_, index) => ({
      step: index + 1,
      loss: 2 + 5 * Math.exp(-index / 30) + 0.1 * Math.sin(index * 7),
      tokensPerSecond: 5000 + 100 * Math.sin(index * 3),
      learningRate: 2e-3 * Math.min(1, (index + 1) / 20),
      gradientNorm: 0.5 + Math.exp(-index / 10),
    })),
    evaluations: [50, 100, 150, 200].map((step, index) => {
      const loss = [3.1, 2.7, 2.6, 2.65][index] ?? 0;
      return { step, loss, perplexity: Math.exp(loss) };
    }),
    bestStep: 150,
    scores: { cider: 0.41273, bleu_4: 0.18 },
    badRows: [{ origin: 'captions.jsonl:118', reason: 'Expected a caption but received ""' }],
    samples: [
      {
        image: { mime: 'image/png', bytes: Uint8Array.of(137, 80, 78, 71) },
        caption: 'a dog runs in the snow.',
        references: ['A dog in snow.', 'Snow, and a dog.', 'A running dog.'],
      },
      { image: null, caption: 'a house by the sea.', references: [] },
    ],
    resumeCommand: null,
    ...changes,
  };
}
