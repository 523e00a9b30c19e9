import { readFile } from 'node:fs/promises';
import { isHeaderValue, splitList } from '../lib/header-list.ts';

/** An API key that can be read again from its file when the upstream refuses it. */
export interface ApiKey {
  readonly value: string;
  /** Reads the key again. */
  reload(): Promise<void>;
}

/** A key that was given as it is: it cannot change while the process runs. */
export function fixedKey(value: string): ApiKey {
  return { value, reload: async () => {} };
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
      const next = splitList(await readFile(path, 'utf8').catch(() => ''))[place];
      // One that cannot be sent would never be refused, and so never be read again.
      if (next !== undefined && isHeaderValue(next)) value = next;
    },
  };
}
