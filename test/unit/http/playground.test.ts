import { describe, expect, test } from 'vitest';
import { readEvents } from '../../../src/http/playground/events.js';
import { meanRows, parseMetrics } from '../../../src/http/playground/metrics.js';
import { snippet } from '../../../src/http/playground/snippet.js';

describe('the stream that the page reads', () => {
  const bodyOf = (...chunks: readonly Uint8Array<ArrayBuffer>[]) =>
    new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      },
    });
  const collect = async (body: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const events: string[] = [];
    for await (const event of readEvents(body)) events.push(event);
    return events;
  };
  const bytes = new TextEncoder().encode('data: {"text":"caf\u00e9"}\n\ndata: 2\n\ndata: [DONE]\n\n');

  test('reads the same however it was cut, within a character too', async () => {
    for (let cut = 1; cut < bytes.length; cut++) {
      expect(await collect(bodyOf(bytes.slice(0, cut), bytes.slice(cut)))).toEqual(['{"text":"caf\u00e9"}', '2']);
    }
  });

  test('is not complete without its end', async () => {
    await expect(collect(bodyOf(bytes.slice(0, -20)))).rejects.toThrow(/before the captions were complete/);
  });
});

test('metrics are read by series, and the mean batch is that of the steps between two looks', () => {
  const look = (sum: number, count: number) =>
    parseMetrics(
      `# HELP x y 1\n# TYPE x gauge\nx{tier="ram"} 3\ngraft_batch_size_sum ${sum}\ngraft_batch_size_count ${count}\nup +Inf\n`,
    );
  expect(look(8, 4).get('x{tier="ram"}')).toBe(3);
  expect([...look(8, 4).keys()]).toHaveLength(4);
  expect(meanRows(look(8, 4), look(20, 8))).toBe(3);
  expect(meanRows(look(8, 4), look(8, 4))).toBeNull();
  expect([meanRows(null, look(8, 4)), meanRows(look(8, 4), null)]).toEqual([null, null]);
});

describe('the request as code', () => {
  const request = {
    url: 'http://localhost:8080/v1/captions',
    file: { name: 'photo.jpg', type: 'image/webp' },
    adapters: ['a', 'b'],
    settings: { max_tokens: 7, stream: true },
    isKeyed: false,
  };

  test('is what a shell and a script take', () => {
    expect(snippet('curl', request)).toBe(
      'curl -N http://localhost:8080/v1/captions \\\n  -F image=@photo.jpg \\\n  -F adapters=a,b \\\n  -F max_tokens=7 \\\n  -F stream=true',
    );
    expect(snippet('fetch', request)).toContain("form.append('adapters', 'a,b');");
  });

  test('is a chat completion an adapter for the OpenAI client', () => {
    const code = snippet('openai', request);
    expect(code).toContain("baseURL: 'http://localhost:8080/v1', apiKey: 'none needed'");
    expect(code).toContain("for (const model of ['a', 'b']) {");
    expect(code).toContain("image_url: { url: 'data:image/webp;base64,' + image } }] }],\n    max_tokens: 7,\n    stream: true,");
    // What a browser says of a file it does not know, or a page made up.
    for (const type of ['', "image/x',rm()"])
      expect(snippet('openai', { ...request, file: { name: 'photo', type } })).toContain("'data:image/jpeg;base64,'");
  });

  test('takes its key from the environment: none is ever shown', () => {
    const keyed = { ...request, isKeyed: true };
    expect(snippet('curl', keyed)).toContain(
      'curl -N http://localhost:8080/v1/captions \\\n  -H "Authorization: Bearer $GRAFT_KEY" \\\n  -F image=@photo.jpg',
    );
    expect(snippet('fetch', keyed)).toContain("{ method: 'POST', headers, body: form }");
    expect(snippet('openai', keyed)).toContain("baseURL: 'http://localhost:8080/v1', apiKey: process.env.GRAFT_KEY });");
    for (const language of ['curl', 'fetch', 'openai'] as const) expect(snippet(language, request)).not.toContain('GRAFT_KEY');
  });

  test('a hostile file name or URL stays a value', () => {
    const file = { name: `a'; rm "x",$(y).jpg`, type: '' };
    expect(snippet('curl', { ...request, file })).toContain(`-F 'image=@"a'\\''; rm \\"x\\",$(y).jpg"'`);
    for (const language of ['fetch', 'openai'] as const)
      expect(snippet(language, { ...request, file })).toContain(`readFile('a\\'; rm "x",$(y).jpg'`);
    const script = snippet('fetch', { ...request, url: `http://h/'+alert("1")+'\\` });
    expect(script).toContain(`fetch('http://h/\\'+alert("1")+\\'\\\\', {`);
  });
});
