/** Captions beside the images they were written for: what no curve shows. Images are inside the page, as data. */
import { formatCount } from './format.js';
import { clip, html, type Markup } from './html.js';
import type { ReportSample } from './report.js';

const MAX_SAMPLES = 200;
/** All images together, before base64: a mail server takes the page as an attachment. */
const MAX_IMAGE_BYTES = 8 * 2 ** 20;
/** Only what cannot carry a script or a reference of its own. */
const MIMES = ['image/jpeg', 'image/png', 'image/webp'];
/** A longer caption is folded, a much longer one cut. */
const FOLD_LENGTH = 280;
const MAX_CAPTION_LENGTH = 4000;
const MAX_REFERENCE_LENGTH = 500;
const SHOWN_REFERENCES = 2;
const MAX_REFERENCES = 10;

export function drawSamples(samples: readonly ReportSample[]): Markup {
  let bytes = 0;
  const drawn = samples.slice(0, MAX_SAMPLES).map((sample, index) => {
    const size = sample.image?.bytes.byteLength ?? 0;
    const fits = bytes + size <= MAX_IMAGE_BYTES;
    if (fits) bytes += size;
    return drawSample(sample, index, fits);
  });
  const left = samples.length - drawn.length;
  return html`<div class="samples">
${drawn}</div>
${left > 0 ? html`<p class="note">${formatCount(left)} more are not shown.</p>` : ''}`;
}

function drawSample({ image, caption, references }: ReportSample, index: number, fits: boolean): Markup {
  return html`<figure class="sample">${drawImage(image, index, fits)}<figcaption>
${drawCaption(caption)}${drawReferences(references)}</figcaption></figure>
`;
}

function drawImage(image: ReportSample['image'], index: number, fits: boolean): Markup {
  if (image === null) return html`<div class="blank">No image</div>`;
  if (!MIMES.includes(image.mime)) return html`<div class="blank">Not a JPEG, PNG or WebP image</div>`;
  if (!fits) return html`<div class="blank">Left out: this page would become too large</div>`;
  const { buffer, byteOffset, byteLength } = image.bytes;
  const data = Buffer.from(buffer, byteOffset, byteLength).toString('base64');
  return html`<img alt="Image of sample ${formatCount(index + 1)}" src="data:${image.mime};base64,${data}">`;
}

function drawCaption(caption: string): Markup {
  if (caption.trim() === '') return html`<p class="caption empty">An empty caption</p>`;
  if (caption.length <= FOLD_LENGTH) return html`<p class="caption" dir="auto">${caption}</p>`;
  return html`<details class="caption"><summary dir="auto">${clip(caption, FOLD_LENGTH)}</summary><p dir="auto">${clip(caption, MAX_CAPTION_LENGTH)}</p></details>`;
}

function drawReferences(references: readonly string[]): Markup | '' {
  if (references.length === 0) return '';
  const items = references.slice(0, MAX_REFERENCES).map((text) => html`<li dir="auto">${clip(text, MAX_REFERENCE_LENGTH)}</li>`);
  const rest = items.slice(SHOWN_REFERENCES);
  const more =
    rest.length > 0 ? html`<details><summary>${formatCount(rest.length)} more</summary><ul>${rest}</ul></details>` : '';
  return html`<div class="references"><span>People wrote</span><ul>${items.slice(0, SHOWN_REFERENCES)}</ul>${more}</div>`;
}
