/** What the file system needs beyond a rename. Without it the rename may be forgotten in a power cut, though the file itself was synced. */
import { open } from 'node:fs/promises';

/** Makes what was created or renamed in a folder durable. Windows cannot open a folder, and does so by itself. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
