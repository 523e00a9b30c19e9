/** Messages whose attachments are served, a queue of them, and an archive in this process. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import type { Connection } from '../../src/simulator/connection.ts';
import type { Fault } from '../../src/simulator/faults.ts';
import { mediaFile } from '../../src/simulator/media.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli } from '../support/cli.ts';
import { type TestDatabase, useTestDatabase } from '../support/database.ts';
import { type MediaFolder, mediaFolder, startArchive, type TestArchive } from '../support/media.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

interface Row {
  message_id: string;
  state: string;
  location: string | null;
  sha256: string | null;
  attempts: number;
  error_kind: string | null;
  writing: string | null;
  claimed_by: string | null;
}

interface Served {
  readonly connection: Connection;
  readonly id: string;
  readonly bytes: Buffer;
}

export class MediaScene {
  readonly database: TestDatabase = useTestDatabase({ migrated: true });
  simulator!: Simulator;
  folder!: MediaFolder;
  archive!: TestArchive;
  /** Messages whose attachments are served, by connection. */
  served: readonly Served[] = [];
  #replica: TestReplica | undefined;

  env = (more: Record<string, string> = {}) => ({
    ...quickSettings(this.database.url, this.simulator.url),
    ...{ MEDIA_STORE: this.folder?.url ?? 'off', REQUEST_TIMEOUT: '1s', ...more },
  });

  /** @param prepare what is done to the replica before its archive runs. */
  start = async (
    more: Record<string, string> = {},
    prepare: (replica: TestReplica) => void = () => {},
  ): Promise<TestReplica> => {
    const replica = await createReplica(this.env(more));
    this.#replica = replica;
    prepare(replica);
    this.archive = await startArchive(replica);
    return replica;
  };

  stop = async (): Promise<void> => {
    if (this.#replica === undefined) return;
    await this.archive.stop();
    await this.#replica.close();
    this.#replica = undefined;
  };

  rows = () =>
    this.database.query<Row & Record<string, unknown>>('select * from whatsapp.media order by message_id');

  /** Puts messages into the queue; the first that is served where none is named. */
  queue = (...ones: readonly Served[]) =>
    Promise.all(
      (ones.length === 0 ? this.served.slice(0, 1) : ones).map(({ connection, id }) =>
        this.database.query('insert into whatsapp.media (connection_id, message_id) values ($1, $2)', [
          connection.id,
          id,
        ]),
      ),
    );

  becomes = (state: string, count = 1) =>
    waitFor(async () => (await this.rows()).filter((row) => row.state === state).length === count, {
      what: `${count} to be ${state}`,
    });

  /** Waits for an event: what it tells of is in the tables before. */
  told = (type: string) =>
    waitFor(() => this.archive.events.some((event) => event.type === type), { what: `the event ${type}` });

  /** Lets the next answers with attachments fail. */
  fails = (fault: Fault, times = 1) => this.simulator.faults.script(fault, times, { route: 'media' });

  /** The kinds of the errors that events of one type told of. */
  kinds = (type: string) =>
    this.archive.events.flatMap((event) =>
      event.type === type && 'error' in event ? [event.error.kind] : [],
    );

  /** For the file that calls this. */
  static use(): MediaScene {
    const scene = new MediaScene();
    beforeAll(async () => {
      scene.simulator = await startSimulator({ connections: 2, messages: 300 });
      expect(await runCli(['sync'], { ...scene.env(), MEDIA_STORE: 'off' })).toMatchObject({ status: 0 });
      scene.served = [...scene.simulator.world.connections.values()].flatMap((connection) =>
        connection.messages.flatMap((message) => {
          const file = mediaFile(message.contentType, message.media);
          if (message.media === 0 || message.contentType === 'text' || !file.available) return [];
          return [{ connection, id: connection.messageId(message.index), bytes: file.bytes }];
        }),
      );
    });
    afterAll(() => scene.simulator.close());
    beforeEach(async () => {
      scene.folder = mediaFolder();
      await scene.database.query('truncate whatsapp.media');
    });
    afterEach(async () => {
      await scene.stop();
      scene.simulator.faults.clear();
      scene.folder.remove();
    });
    return scene;
  }
}
