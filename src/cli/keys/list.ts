/** `graft keys list`: whose keys there are, and until when. */
import { findBook, readBook } from './book.js';
import type { KeyFlags } from './change.js';

export interface ListFlags extends KeyFlags {
  readonly json?: boolean;
}

/** A line a key; a tenant without any has one too. Throws `invalid_config` with every fault of every file. */
export async function listKeys(
  { tenants, config, json }: ListFlags,
  env: Readonly<Record<string, string | undefined>>,
  folder: string,
): Promise<string> {
  const entries = await readBook(await findBook({ flags: tenants === undefined ? {} : { tenants }, env, file: config, folder }));
  const now = Date.now();
  const isOver = (expiresMs: number | null): boolean => expiresMs !== null && expiresMs <= now;
  if (json) {
    const rows = entries.flatMap(({ tenant, keys }) =>
      keys.map(({ id, sha256, expiresMs }) => ({
        tenant: tenant.name,
        admin: tenant.isAdmin,
        id,
        sha256,
        expires: expiresMs === null ? null : timeOf(expiresMs),
        expired: isOver(expiresMs),
      })),
    );
    return JSON.stringify(rows, null, 2);
  }
  const rows = entries.flatMap(({ tenant, keys }) => {
    const name = tenant.isAdmin ? `${tenant.name} (admin)` : tenant.name;
    if (keys.length === 0) return [[name, '-', '-']];
    return keys.map(({ id, expiresMs }) => [
      name,
      id,
      expiresMs === null ? 'never' : `${isOver(expiresMs) ? 'expired ' : ''}${timeOf(expiresMs)}`,
    ]);
  });
  return table([['TENANT', 'KEY', 'EXPIRES'], ...rows]);
}

function timeOf(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
