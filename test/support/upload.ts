/** An adapter's folder as a form that publishes it: a file a field, named by its path. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

export async function adapterForm(folder: string): Promise<FormData> {
  const form = new FormData();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    form.append(path.relative(folder, file).replaceAll(path.sep, '/'), new Blob([await readFile(file)]), entry.name);
  }
  return form;
}
