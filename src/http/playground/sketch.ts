/** A drawn scene at random, as the JPEG file that a visitor would have dropped. All of it happens in the browser: the server gets an image like any other. */
import { sceneSvg } from '../../scenes/drawing.js';
import { drawScene } from '../../scenes/scene.js';

const EDGE_PIXELS = 448;
const QUALITY = 0.9;

/** Throws where the browser cannot draw, or writes no JPEG. */
export async function sketch(): Promise<File> {
  const { svg } = sceneSvg(drawScene(Math.random), Math.random, EDGE_PIXELS);
  const canvas = document.createElement('canvas');
  canvas.width = EDGE_PIXELS;
  canvas.height = EDGE_PIXELS;
  const context = canvas.getContext('2d');
  if (!context) throw new Error('This browser cannot draw: its canvas is switched off.');
  context.drawImage(await imageOf(svg), 0, 0, EDGE_PIXELS, EDGE_PIXELS);
  const jpeg = await new Promise<Blob | null>((resolve) => {
    canvas.toBlob(resolve, 'image/jpeg', QUALITY);
  });
  // A browser that does not know a format writes another.
  if (jpeg?.type !== 'image/jpeg') throw new Error('This browser cannot write a JPEG.');
  return new File([jpeg], 'scene.jpg', { type: jpeg.type });
}

async function imageOf(svg: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
  try {
    await image.decode();
    return image;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
