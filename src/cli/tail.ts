import { Command, InvalidArgumentError } from 'commander';
import { codeOf, mayPass, sqlstate } from '../errors/errors.ts';
import { Alarm } from '../lib/wait.ts';
import type { Replica } from '../replica/replica.ts';
import {
  ackChanges,
  type Change,
  changesAfter,
  feedEnd,
  readChanges,
  registerConsumer,
  releaseChanges,
  TOO_LATE,
} from '../store/feed.ts';
import { changesChannel, listen } from '../store/notify.ts';
import { onTables } from './session.ts';
import { CommandFailed, printable, ReaderGone, type Terminal, written } from './terminal.ts';

/** Changes that one look takes, of each connection, or of all for a consumer. */
const MOST = 500;
/** How often it looks, in milliseconds: where NOTIFY is heard, and where it is not. */
const LOOK_EVERY = 5_000;
const LOOK_EVERY_DEAF = 1_000;
/** How long what a consumer has read is its own, in milliseconds: the default of `read_changes`. */
const LEASE = 60_000;

interface TailOptions {
  readonly json?: true;
  readonly consumer?: string;
}

/** `wa-replica tail`: the change feed as it grows. Needs the database alone. */
export function tailCommand(terminal: Terminal): Command {
  return new Command('tail')
    .description('prints the change feed as it grows, until Ctrl-C: ids, never content')
    .option('--json', 'a JSON object a line')
    .option(
      '--consumer <name>',
      'as this consumer, from where it stands, acknowledging what was printed; made known, from now on, where it is new',
      consumerOf,
    )
    .action(async (options: TailOptions) => {
      await onTables(terminal, async (replica) => {
        await tail(terminal, replica, options);
      });
    });
}

/** The feed waits for whoever is known, so that a slip (an empty variable) must not make a consumer. */
function consumerOf(text: string): string {
  if (/^[^\s\p{C}]([^\p{C}]{0,98}[^\s\p{C}])?$/u.test(text)) return text;
  throw new InvalidArgumentError('a name of 1 to 100 characters is wanted, such as crm');
}

async function tail(terminal: Terminal, replica: Replica, { json, consumer }: TailOptions): Promise<void> {
  const { stderr, signal } = terminal;
  if (!replica.settings.CHANGES) stderr.write('wa-replica: CHANGES is off: nothing new is told\n');
  const print = (changes: readonly Change[]) =>
    written(terminal, changes.map((change) => `${json ? JSON.stringify(change) : line(change)}\n`).join(''));
  const look =
    consumer === undefined
      ? await looker(terminal, replica, print)
      : await consuming(terminal, replica, consumer, print);
  const bell = new Alarm();
  let every = LOOK_EVERY_DEAF;
  const ended = new AbortController();
  const hearing = hear(replica, AbortSignal.any([signal, ended.signal]), {
    onNotice: () => bell.ring(),
    onHearing: (heard) => {
      every = heard ? LOOK_EVERY : LOOK_EVERY_DEAF;
      bell.ring();
    },
  });
  let away = false;
  try {
    while (!signal.aborted) {
      try {
        const more = await look();
        away = false;
        if (more) continue;
      } catch (error) {
        if (error instanceof ReaderGone || signal.aborted) return;
        if (error instanceof CommandFailed || !mayPass(error)) throw error;
        if (!away)
          stderr.write(`wa-replica: the database does not answer (${codeOf(error)}), trying again\n`);
        away = true;
      }
      await bell.sleep(away ? LOOK_EVERY_DEAF : every, signal);
    }
  } finally {
    ended.abort();
    await hearing;
  }
}

/** Reads on from the feed's end, and keeps no position.
 * @returns what looks once, and says whether there was anything. */
async function looker(
  { stderr }: Terminal,
  { db }: Replica,
  print: (changes: readonly Change[]) => Promise<void>,
): Promise<() => Promise<boolean>> {
  const positions = await feedEnd(db);
  return async () => {
    const changes = await changesAfter(db, positions, MOST);
    for (const { connection_id: id, change_no: no } of changes) {
      const missing = BigInt(no) - BigInt(positions.get(id) ?? '0') - 1n;
      if (missing > 0n)
        stderr.write(`wa-replica: ${printable(id)}: ${missing} changes before ${no} are gone\n`);
      positions.set(id, no);
    }
    await print(changes);
    return changes.length > 0;
  };
}

async function consuming(
  { stderr }: Terminal,
  { db, settings }: Replica,
  consumer: string,
  print: (changes: readonly Change[]) => Promise<void>,
): Promise<() => Promise<boolean>> {
  const schema = settings.WA_REPLICA_SCHEMA;
  if (await registerConsumer(db, schema, consumer)) {
    stderr.write(
      `wa-replica: this consumer is new: it begins now, and the feed waits for it until \`select ${schema}.drop_consumer(…)\`\n`,
    );
  }
  return async () => {
    const askedAt = performance.now();
    const changes = await readChanges(db, schema, consumer, MOST).catch((error: unknown) => {
      if (sqlstate(error) !== TOO_LATE) throw error;
      throw new CommandFailed(
        `this consumer comes too late: changes that it has not read are gone; \`select ${schema}.restart_consumer(…)\` moves it on`,
      );
    });
    try {
      await print(changes);
    } catch (error) {
      // For whoever comes next; without the right to, or in vain, it ends by itself.
      if (performance.now() - askedAt < LEASE) await releaseChanges(db, consumer, changes).catch(() => {});
      throw error;
    }
    await ackChanges(db, schema, consumer, changes);
    return changes.length > 0;
  };
}

/** Hears when the feed grows, where LISTEN is on. */
async function hear(
  { settings, databaseUrl, control }: Replica,
  signal: AbortSignal,
  { onNotice, onHearing }: { onNotice: () => void; onHearing: (heard: boolean) => void },
): Promise<void> {
  const url = settings.LISTEN_DATABASE_URL ?? databaseUrl;
  if (url === 'off') return;
  await listen(
    {
      url,
      db: control,
      onDue: () => {},
      onLeases: () => {},
      also: { channel: changesChannel(settings.WA_REPLICA_SCHEMA), onNotice },
      onListening: () => onHearing(true),
      onDeaf: () => onHearing(false),
    },
    signal,
  );
}

function line(change: Change): string {
  const { connection_id, change_no, kind, record_id, op, changed_fields, at } = change;
  const fields = changed_fields === null ? '' : `  ${changed_fields.join(', ')}`;
  const record = record_id === null ? '–' : printable(record_id);
  return `${at.toISOString()}  ${printable(connection_id)}  ${change_no}  ${kind} ${record} ${op}${fields}`;
}
