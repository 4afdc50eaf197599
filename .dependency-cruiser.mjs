/**
 * Who may import whom, as rules for dependency-cruiser. The table is the design's import table, line for line: imports only go down,
 * so that a folder can be understood, tested and replaced with nothing above it. `scripts/structure.ts` runs this and also proves
 * that it saw the tree: a compiler that dependency-cruiser cannot load makes it pass with no module at all.
 */

/** Each part of src: what it may import besides its own files and errors.ts (prefixes below src). */
const IMPORTS = {
  tensor: [],
  evaluation: [],
  tenants: ['size'],
  fairness: [],
  scenes: [],
  hub: ['tensor/'],
  sources: ['fairness/', 'hub/', 'adapter/', 'tensor/'],
  store: ['adapter/', 'tensor/'],
  onnx: ['tensor/'],
  runtime: ['tensor/'],
  images: ['fairness/', 'runtime/'],
  autodiff: ['onnx/', 'tensor/'],
  backbone: ['onnx/', 'tensor/'],
  adapter: ['fairness/', 'backbone/', 'tensor/'],
  engine: ['runtime/', 'adapter/', 'backbone/', 'onnx/', 'tensor/'],
  serving: ['engine/', 'adapter/', 'backbone/backbone', 'backbone/manifest', 'backbone/tokenizer', 'fairness/', 'runtime/'],
  finetuning: ['runtime/', 'images/format', 'images/refusal', 'training/', 'adapter/', 'tensor/'],
  http: [
    'serving/client',
    'serving/likelihood',
    'serving/protocol',
    'serving/text',
    'images/client',
    'images/protocol',
    'images/remote',
    'adapter/blend',
    'adapter/registry',
    'store/',
    'tenants/',
    'fairness/',
    'finetuning/(?!process)',
    'config',
    'metrics',
    'tracing',
    'scenes/',
  ],
  training: ['settings', 'autodiff/', 'adapter/', 'backbone/', 'images/', 'runtime/', 'evaluation/', 'onnx/', 'tensor/'],
  cli: [''],
  'errors.ts': [],
  'config.ts': ['settings'],
  'settings.ts': ['size'],
  'size.ts': [],
  'metrics.ts': ['traffic'],
  'traffic.ts': [],
  'tracing.ts': [],
  'index.ts': ['(?!cli/)'],
};

/** What each may import with `import type` in addition: words of a contract, nothing that runs. */
const TYPES = {
  images: ['backbone/vision/recipe'],
  serving: ['images/protocol', 'backbone/module', 'backbone/vision/recipe', 'tensor/'],
  http: ['adapter/', 'sources/library', 'backbone/manifest', 'backbone/template', 'backbone/tokenizer', 'backbone/vision/recipe'],
  'metrics.ts': ['finetuning/job', 'serving/protocol', 'sources/place', 'sources/supply', 'tenants/tenant'],
};

/** Packages that have one home: they can be replaced there, and no process loads them that must not. */
const HOMES = {
  'onnxruntime-(node|common)': 'runtime/',
  sharp: 'images/',
  express: 'http/',
  undici: 'hub/',
  'prom-client': 'metrics\\.ts$',
  '@opentelemetry': 'tracing\\.ts$',
  aws4fetch: 'sources/',
  'tar-stream': 'store/',
  ioredis: 'tenants/',
  'rate-limiter-flexible': 'tenants/',
  '@huggingface/tokenizers': 'backbone/tokenizer',
  '@huggingface/jinja': 'backbone/template',
  '@bufbuild/protobuf': 'onnx/',
};

const below = (names) => `^src/(${names.join('|')})`;
const own = (name) => (name.endsWith('.ts') ? name.replace('.', '\\.') : `${name}/`);
const parts = Object.keys(IMPORTS).map(own);

const table = Object.entries(IMPORTS).flatMap(([name, imports]) => {
  const from = { path: below([own(name)]) };
  const values = [own(name), 'errors\\.ts$', ...imports];
  const types = [...values, ...(TYPES[name] ?? [])];
  const allowed = imports.length > 0 ? imports.map((path) => path || 'everything').join(', ') : 'nothing';
  return [
    {
      name: `${name}-imports`,
      comment: `${name} may import ${allowed} (besides its own files and errors.ts).`,
      severity: 'error',
      from,
      to: { path: '^src/', pathNot: below(values), dependencyTypesNot: ['type-only'] },
    },
    {
      name: `${name}-types`,
      comment: `${name} may import types from ${types.slice(2).join(', ') || 'nothing'} (besides its own files and errors.ts).`,
      severity: 'error',
      from,
      to: { path: '^src/', pathNot: below(types), dependencyTypes: ['type-only'] },
    },
  ];
});

const homes = Object.entries(HOMES).map(([name, home]) => ({
  name: `home-of-${name.replace(/\W+/g, '-').replace(/^-|-$/g, '')}`,
  comment: `Only src/${home} imports ${name}.`,
  severity: 'error',
  from: { path: '^src/', pathNot: below([home]) },
  to: { path: `(^|node_modules/)${name}(/|$)` },
}));

export default {
  forbidden: [
    ...table,
    ...homes,
    {
      name: 'trains-in-its-process',
      comment: 'Of fine-tuning only the process that trains loads the trainer, and with it native code.',
      severity: 'error',
      from: { path: '^src/finetuning/', pathNot: '^src/finetuning/process\\.ts$' },
      to: { path: '^src/training/' },
    },
    {
      name: 'known-folders',
      comment: 'A new part of src needs a line in the import table.',
      severity: 'error',
      from: { path: '^src/', pathNot: below(parts) },
      to: {},
    },
    {
      name: 'no-cycles',
      comment: 'A cycle is one thing in two files, or a dependency that points the wrong way.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      comment: 'A file that nothing imports and that imports nothing is dead, unless it is an entry.',
      severity: 'error',
      from: { orphan: true, path: '^src/', pathNot: ['\\.d\\.ts$', '^src/(index|cli/main)\\.ts$', '/process\\.ts$'] },
      to: {},
    },
    {
      name: 'resolvable',
      comment: 'The file or package that is imported must exist.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-dev-dependencies',
      comment: 'What ships may only import what is installed with it.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-unlisted-dependencies',
      comment: 'A package that package.json does not name is there by luck.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    combinedDependencies: false,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types', 'default'] },
  },
};
