/** A folder for an embedded server of each test's own. */
import { execFileSync } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import {
  destroyEmbeddedPostgres,
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded/server.ts';
import { scratchFolder } from '../support/scratch.ts';
import { steadyPort } from '../support/steady-port.ts';

export class EmbeddedScene {
  readonly settings = { fsync: 'off' };
  /** Nothing is there yet. */
  dir!: string;
  /** A cluster that has been started once: a copy of it is there ten times sooner than a new one. */
  readonly #stock = scratchFolder();

  takeFromStock = (): void => void execFileSync('cp', ['-a', this.#stock, this.dir]);

  start = (more: { port?: number; log?: (line: string) => void } = {}): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({ dir: this.dir, settings: this.settings, ...more });

  /** For the file that calls this. */
  static use(): EmbeddedScene {
    const scene = new EmbeddedScene();
    const { settings } = scene;
    beforeAll(async () => {
      // The copies have its port, and want it again and again.
      const port = await steadyPort();
      await (await startEmbeddedPostgres({ dir: scene.#stock, settings, port })).stop();
    });
    afterAll(() => rm(scene.#stock, { recursive: true }));
    beforeEach(() => {
      scene.dir = scratchFolder();
    });
    afterEach(async () => {
      await destroyEmbeddedPostgres(scene.dir);
      await rm(scene.dir, { recursive: true, force: true });
    });
    return scene;
  }
}

export async function query(url: string, sql: string): Promise<Record<string, unknown>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows[0] ?? {};
  } finally {
    await client.end();
  }
}

export const modeOf = async (file: string) => (await stat(file)).mode & 0o777;
