import { readFile } from 'node:fs/promises';
import type { ApiKey } from './client.ts';

/** A key that was given as it is: it cannot change while the process runs. */
export function fixedKey(value: string): ApiKey {
  return { value, reload: async () => false };
}

/**
 * A key that stands in a file, at a place of its comma-separated list; read again when the upstream refuses it, so
 * that a rotated secret of Docker or systemd is taken without a restart.
 */
export function keyInFile(path: string, place: number, initial: string): ApiKey {
  let value = initial;
  return {
    get value() {
      return value;
    },
    async reload() {
      const keys = (await readFile(path, 'utf8').catch(() => '')).split(',').map((key) => key.trim());
      const next = keys[place];
      if (next === undefined || next === '' || next === value) return false;
      value = next;
      return true;
    },
  };
}
