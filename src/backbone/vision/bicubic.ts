/** Interpolation of learned positions: PyTorch's `interpolate(mode="bicubic", align_corners=False)`, which DINOv2 is used with. */

/** Keys' cubic (1981) with PyTorch's a; Pillow and OpenCV take others. */
const A = -0.75;

function cubic(distance: number): number {
  const x = Math.abs(distance);
  if (x <= 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? ((A * x - 5 * A) * x + 8 * A) * x - 4 * A : 0;
}

/** The matrix [to, from] that resamples a line of points; no smoothing on the way down, and the outermost points go on beyond the ends. */
export function bicubic(from: number, to: number): Float32Array {
  const matrix = new Float32Array(to * from);
  for (let row = 0; row < to; row++) {
    const center = ((row + 0.5) * from) / to - 0.5;
    const first = Math.floor(center) - 1;
    for (let tap = first; tap < first + 4; tap++) {
      const at = row * from + Math.min(Math.max(tap, 0), from - 1);
      matrix[at] = (matrix[at] as number) + cubic(center - tap);
    }
  }
  return matrix;
}
