import { Command, InvalidArgumentError } from 'commander';
import { ConfigError } from '../config/load.ts';
import { codeOf, ReplicaError } from '../errors/errors.ts';
import { humanDuration } from '../lib/durations.ts';
import { phoneJid } from '../lib/identifiers.ts';
import { removeFiles } from '../media/removal.ts';
import type { Replica } from '../replica/replica.ts';
import { forgettingOf, requireErasureKey } from '../replica/writing.ts';
import { requireCurrentSchema } from '../store/migrator.ts';
import { serverFacts } from '../store/server.ts';
import { keyFingerprints } from '../store/suppressions.ts';
import { type ErasureCounts, erase, type Foresight, foresee } from '../sync/erase.ts';
import { type EraseOrder, ErasureRefused, type Who } from '../sync/erase-order.ts';
import { openStore } from './archiving.ts';
import { withReplica } from './session.ts';
import { CommandFailed, printable, type Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

interface Options {
  readonly phone?: string;
  readonly person?: string;
  readonly connection?: string;
  readonly forever?: true;
  readonly yes?: true;
}

/** `wa-replica erase`: removes a person's data everywhere, and keeps it from coming back (R20). */
export function eraseCommand(terminal: Terminal): Command {
  return new Command('erase')
    .description(
      "removes a person's data everywhere, and keeps it from coming back; shows first what it will remove",
    )
    .option('--phone <number>', 'whose: the number in E.164, such as +491701234567', phoneOf)
    .option('--person <id>', "whose: the upstream's person_id")
    .option('--connection <id>', 'only what is on this connection')
    .option(
      '--forever',
      'keep out what is from after the erasure, too; also for a number that is not known yet',
    )
    .option('--yes', 'do it; without it nothing is removed')
    .addHelpText(
      'after',
      `
It cannot be taken back. Needs ERASURE_KEY, and so do run, sync, verify, link and quarantine retry from then on: what
was erased is recognized by hashes under it. Backups of the database are not touched. See docs/privacy.md.`,
    )
    .action(async (options: Options) => {
      const who = whoOf(options);
      await withReplica(terminal, { needsUpstream: false }, async (replica) => {
        const { settings, maintenance: db } = replica;
        const { key } = forgettingOf(settings);
        if (key === undefined) {
          throw new ConfigError([
            'ERASURE_KEY is not set: draw one (openssl rand -hex 32), give it to every process that writes, and keep it',
          ]);
        }
        await requireCurrentSchema(db, settings.WA_REPLICA_SCHEMA);
        await requireErasureKey(replica);
        await requireClock(db);
        const order: EraseOrder = {
          ...{ who, key, connectionId: options.connection, changes: settings.CHANGES },
          schema: settings.WA_REPLICA_SCHEMA,
          forever: options.forever === true,
        };
        try {
          if (options.yes) {
            const { id, erasedAt, counts, files } = await erase(db, order);
            terminal.stdout.write(
              `erasure ${id}, ${erasedAt.toISOString()}\n${table(counts)}${renewed(counts, order)}`,
            );
            await removeFilesOf(replica, files);
            return;
          }
          const isFirst = (await keyFingerprints(db)).length === 0;
          terminal.stdout.write(describe(await foresee(db, order), order, isFirst));
        } catch (error) {
          throw error instanceof ErasureRefused ? new CommandFailed(error.message) : error;
        }
      });
    });
}

/** How far the clock of Postgres may be from this machine's, in milliseconds. */
const CLOCKS_APART = 300_000;

/** An erasure is dated by Postgres: with its clock ahead, what the person writes until then would be kept out for good.
 * @throws CommandFailed where it is off. */
async function requireClock(db: Replica['db']): Promise<void> {
  const { now } = await serverFacts(db);
  const apart = Math.abs(now.getTime() - Date.now());
  if (apart <= CLOCKS_APART) return;
  throw new CommandFailed(
    `the clock of Postgres is ${humanDuration(apart / 1000)} away from this machine's, and says up to when messages are kept out: synchronise them (NTP) first`,
  );
}

/** @throws CommandFailed where files are left: the rest of the erasure is done. */
async function removeFilesOf(replica: Replica, files: readonly string[]): Promise<void> {
  if (files.length === 0) return;
  const store = await openStore(replica);
  if (store === undefined) {
    throw new CommandFailed(
      `${files.length} files are left in the archive: MEDIA_STORE is off. A daemon with it removes them within two days`,
    );
  }
  let elsewhere: readonly string[];
  try {
    ({ elsewhere } = await removeFiles(replica.maintenance, store, files));
  } catch (error) {
    const why = error instanceof ReplicaError ? `${error.kind}: ${error.message}` : codeOf(error);
    throw new CommandFailed(
      `files are left in the archive (${why}): the daemon removes them within two days`,
    );
  } finally {
    store.close();
  }
  if (elsewhere.length === 0) return;
  const list = elsewhere.map((location) => `  ${location}\n`).join('');
  throw new CommandFailed(
    `files are left in another store than MEDIA_STORE, and nothing else knows of them: remove them by hand\n${list.trimEnd()}`,
  );
}

function phoneOf(text: string): string {
  const jid = text.trim().startsWith('+') ? phoneJid(text) : undefined;
  if (jid === undefined) throw new InvalidArgumentError('a number in E.164 is wanted, such as +491701234567');
  return jid;
}

/** @throws CommandFailed unless exactly one person is named. */
function whoOf({ phone, person }: Options): Who {
  if ((phone === undefined) === (person === undefined)) {
    throw new CommandFailed('either --phone or --person is wanted', 2);
  }
  if (phone !== undefined) return { jid: phone };
  if (person!.trim() === '') throw new CommandFailed('--person is empty', 2);
  return { personId: person! };
}

const WHAT: Readonly<Record<keyof ErasureCounts, string>> = {
  contacts: 'contacts',
  conversations: 'direct chats',
  messages: 'messages removed',
  tombstones: 'messages in groups without sender and text',
  mentions: "others' records without a mention or reaction",
  revisions: 'earlier versions of messages',
  reactions: 'reactions',
  memberships: 'memberships',
  quarantined: 'entries of the quarantine',
  attachments: 'attachments',
  links: 'links to contacts of the CRM',
};

function table(counts: ErasureCounts): string {
  const rows = Object.entries(counts).map(([name, count]) => [
    WHAT[name as keyof ErasureCounts],
    String(count),
  ]);
  return textTable(['what', 'count'], rows);
}

/** Somebody who was erased before, and of whom nothing came since: what the new moment changes is told instead. */
function renewed(counts: ErasureCounts, { forever }: EraseOrder): string {
  const isNothing = Object.values(counts).every((count) => count === 0);
  return isNothing && !forever
    ? 'Nothing of them is here. What is from before this erasure is kept out, too.\n'
    : '';
}

/** A daemon without the key parks all of its connections at the first erasure, and takes settings at its start alone. */
const FIRST = `Nobody was erased here before. From then on whatever writes needs this ERASURE_KEY: set it for every daemon, and
restart them, before you add --yes. One that runs without it writes nothing any more.
`;

/** For whoever has to see that it is the right person: their JIDs and ids are named here, and nowhere else. */
function describe({ person: { jids, ids }, counts }: Foresight, order: EraseOrder, isFirst: boolean): string {
  const { connectionId, forever } = order;
  const lines = [...[...jids].sort(), ...ids.map((id) => `${id.connectionId} ${id.personId}`).sort()].map(
    (name) => `  ${printable(name)}\n`,
  );
  const where =
    connectionId === undefined ? 'on all connections, those of later too' : `on ${connectionId} alone`;
  const after = forever ? 'and nothing of them will be stored again' : 'what is from after it will be stored';
  return `Known as\n${lines.join('')}\nWould be removed, ${where}; ${after}:\n${table(counts)}${renewed(counts, order)}
${isFirst ? FIRST : ''}Nothing was removed: add --yes to do it. It cannot be taken back.\n`;
}
