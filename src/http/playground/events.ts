/** Server-sent events of this server: `data: {json}` blocks, `[DONE]` at the end. EventSource cannot POST, so the page reads them itself. */

/** The blocks' data as they come. Throws where the stream ends before `[DONE]`: whatever came is not the whole answer. */
export async function* readEvents(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = '';
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      buffered += chunk.value;
      const blocks = buffered.split('\n\n');
      buffered = blocks.pop() ?? '';
      for (const block of blocks) {
        const data = block.replace(/^data: /, '');
        if (data === '[DONE]') return;
        yield data;
      }
    }
  } finally {
    await reader.cancel();
  }
  throw new Error('The server ended the stream before the captions were complete. Please try again.');
}
