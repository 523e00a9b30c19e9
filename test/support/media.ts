import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Archiving, openArchive } from '../../src/cli/archiving.ts';
import type { MediaEvent } from '../../src/media/events.ts';
import { createLogger } from '../../src/ops/logger.ts';
import type { Replica } from '../../src/replica/replica.ts';

/** A folder for an archive. */
export interface MediaFolder {
  readonly path: string;
  /** For MEDIA_STORE. */
  readonly url: string;
  /** The attachments in it, as paths below it, and what is on its way. */
  files(): Promise<string[]>;
  incoming(): Promise<string[]>;
  remove(): void;
}

export function mediaFolder(): MediaFolder {
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-media-'));
  return {
    path: folder,
    url: pathToFileURL(folder).href,
    async files() {
      const all = await readdir(folder, { recursive: true });
      return all.filter((name) => /[0-9a-f]{64}/.test(name) && !name.startsWith('.')).sort();
    },
    incoming: () => readdir(path.join(folder, '.incoming')),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** An archive that runs in this process. */
export interface TestArchive extends Archiving {
  readonly events: MediaEvent[];
  /** Ends it as the daemon's end does. */
  stop(): Promise<void>;
}

/** @param log where its lines go; nowhere where absent. */
export async function startArchive(
  replica: Replica,
  log: NodeJS.WritableStream = process.stderr,
): Promise<TestArchive> {
  const events: MediaEvent[] = [];
  const level = log === process.stderr ? 'silent' : 'debug';
  const logger = createLogger({ level, format: 'json', stream: log });
  const archiving = await openArchive(replica, (event) => events.push(event), logger);
  if (archiving === undefined) throw new Error('MEDIA_STORE is off');
  const stopping = new AbortController();
  const running = archiving.archive.run(stopping.signal);
  return {
    ...archiving,
    events,
    async stop() {
      stopping.abort(new DOMException('the test stops it', 'AbortError'));
      await running;
      await archiving.close();
    },
  };
}

/** The bytes that a location of `media` names. */
export async function contentOf(location: string): Promise<Buffer> {
  return await readFile(new URL(location));
}
