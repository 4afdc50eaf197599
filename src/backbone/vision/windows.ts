/**
 * Where the tokens of a grid go, for Swin's windows and for its merging of four patches into one. All of it is known before a graph is
 * built, so that a graph moves tokens by one list of places, whatever was padded, shifted and cut on the way.
 */
import type { Edges } from './transformer.js';

/** Tokens in a new order. Places from the number of tokens on are padding, which is thought of as standing after the tokens. */
export interface Arrangement {
  readonly order: readonly number[];
  readonly padding: number;
}

export interface Windows extends Arrangement {
  /** Windows of the grid; the order goes window by window. */
  readonly count: number;
  /** Tokens of a window. */
  readonly tokens: number;
  /** Of every window, which of its tokens (columns) each of its tokens (rows) must not see; null where all see all. */
  readonly hidden: readonly boolean[] | null;
}

/** Cells of a grid [rows, columns] in the order in which they are named; one outside of the grid is padding, and named once. */
function arrange([rows, columns]: Edges, cells: readonly Edges[]): Arrangement {
  let padding = 0;
  const order = cells.map(([row, column]) =>
    row < rows && column < columns ? row * columns + column : rows * columns + padding++,
  );
  return { order, padding };
}

/** The squares of an edge that cover a grid, each with its cells, as [row, column]. */
function squares([rows, columns]: Edges, edge: number): Edges[][] {
  const down = Math.ceil(rows / edge);
  const across = Math.ceil(columns / edge);
  return range(down * across).map((square) =>
    range(edge * edge).map((cell) => [
      Math.floor(square / across) * edge + Math.floor(cell / edge),
      (square % across) * edge + (cell % edge),
    ]),
  );
}

/** Windows of a grid that begin `shift` cells later and wrap around: what came from the other end must not be seen by the rest. */
export function windowsOf(grid: Edges, edge: number, shift: number): Windows {
  const [height, width] = padded(grid, edge);
  const windows = squares(grid, edge);
  const moved = windows.flat().map(([row, column]): Edges => [(row + shift) % height, (column + shift) % width]);
  // A window that holds none of what wrapped around is whole; in others it, along either axis, is a part of its own.
  const part = ([row, column]: Edges): number => 2 * Number(row >= height - shift) + Number(column >= width - shift);
  const parts = windows.map((cells) => cells.map(part));
  return {
    ...arrange(grid, moved),
    count: windows.length,
    tokens: edge * edge,
    hidden: shift === 0 ? null : parts.flatMap((own) => own.flatMap((one) => own.map((other) => one !== other))),
  };
}

/** The grid that windows of an edge fill. */
function padded([rows, columns]: Edges, edge: number): Edges {
  return [Math.ceil(rows / edge) * edge, Math.ceil(columns / edge) * edge];
}

/** Every four patches of a square side by side, column by column as Swin stores them. */
export function foursOf(grid: Edges): Arrangement {
  return arrange(
    grid,
    squares(grid, 2).flatMap(([topLeft, topRight, bottomLeft, bottomRight]) => [
      topLeft as Edges,
      bottomLeft as Edges,
      topRight as Edges,
      bottomRight as Edges,
    ]),
  );
}

/** The order of tokens · heads, head by head within each window. */
export function byHeads({ order, count, tokens }: Windows, heads: number): number[] {
  return range(count).flatMap((window) =>
    range(heads).flatMap((head) => order.slice(window * tokens, (window + 1) * tokens).map((place) => place * heads + head)),
  );
}

/** How far apart two tokens of a window can be, down and across, on a scale of logarithms; [distances², 2], row by row. */
export function distancesOf(edge: number, pretrainedEdge: number): number[] {
  const scale = pretrainedEdge > 0 ? pretrainedEdge - 1 : Math.max(edge - 1, 1);
  const along = range(2 * edge - 1).map((index) => {
    const distance = (8 * (index - edge + 1)) / scale;
    return (Math.sign(distance) * Math.log2(Math.abs(distance) + 1)) / Math.log2(8);
  });
  return along.flatMap((down) => along.flatMap((across) => [down, across]));
}

/** For each pair of tokens of a window, where `distancesOf` holds their distance: [tokens · tokens]. */
export function pairsOf(edge: number): number[] {
  const cells = range(edge * edge).map((cell): Edges => [Math.floor(cell / edge), cell % edge]);
  return cells.flatMap(([row, column]) =>
    cells.map(([otherRow, otherColumn]) => (row - otherRow + edge - 1) * (2 * edge - 1) + (column - otherColumn + edge - 1)),
  );
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
