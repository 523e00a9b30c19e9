import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import type { Kysely } from 'kysely';
import type { Replica } from '../replica/replica.ts';
import { requireErasureKey, writingOf } from '../replica/writing.ts';
import {
  countDeadLetters,
  type DeadLetter,
  type DeadLetterFilter,
  deadLetterIds,
  listDeadLetters,
  readDeadLetter,
} from '../store/dead-letters.ts';
import type { Database } from '../store/schema.ts';
import { discard } from '../sync/discard.ts';
import { retryDeadLetter } from '../sync/retry.ts';
import { confirm } from './confirm.ts';
import { refuseUnknown } from './connection-option.ts';
import { onTables } from './session.ts';
import { CommandFailed, printable, type Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** Entries that `list` shows at most, as a table. */
const MOST = 1000;

interface Filters {
  readonly connection?: string;
  readonly kind?: string;
  readonly code?: string;
  readonly all?: true;
  readonly json?: true;
  readonly yes?: true;
}

/** `wa-replica quarantine`: the dead letters, records that could not be stored (R9). */
export function quarantineCommand(terminal: Terminal): Command {
  const command = new Command('quarantine').description('the dead letters: records that could not be stored');
  command.addCommand(
    filtered(new Command('list').description('the open entries'))
      .option('--all', 'the resolved ones too')
      .option('--json', 'as JSON, one entry a line')
      .action((filters: Filters) => onTables(terminal, ({ db }) => list(terminal, db, filters))),
  );
  command.addCommand(
    new Command('show')
      .description('one entry, and its record exactly as it came')
      .addArgument(new Argument('<id>', 'the number of the entry').argParser(entryId))
      .action((id: string) => onTables(terminal, ({ db }) => show(terminal, db, id))),
  );
  command.addCommand(
    filtered(
      new Command('retry').description('applies what can be stored now; a newer row is not overwritten'),
    )
      .addArgument(idsArgument())
      .action((ids: string[], filters: Filters) =>
        onTables(terminal, async (replica) => {
          await requireErasureKey(replica);
          await retry(terminal, replica, { ...filters, ids });
        }),
      ),
  );
  command.addCommand(
    filtered(new Command('discard').description('closes entries without applying them; their JSON stays'))
      .addArgument(idsArgument())
      .option('--yes', 'do not ask')
      .action((ids: string[], filters: Filters) =>
        onTables(terminal, ({ db }) => discardAll(terminal, db, { ...filters, ids }, filters.yes === true)),
      ),
  );
  return command;
}

function filtered(command: Command): Command {
  return command
    .option('--connection <id>', 'of this connection')
    .addOption(
      new Option('--kind <kind>', 'of this kind').choices([
        'message',
        'conversation',
        'contact',
        'participant',
      ]),
    )
    .option('--code <code>', 'with this error code');
}

function idsArgument(): Argument {
  return new Argument('[ids...]', 'the numbers of the entries')
    .argParser((text: string, ids: string[] | undefined) => [...(ids ?? []), entryId(text)])
    .default([], 'all that match');
}

function entryId(text: string): string {
  if (!/^\d{1,18}$/.test(text))
    throw new InvalidArgumentError('the number of an entry is wanted; see `quarantine list`');
  return text;
}

async function list({ stdout }: Terminal, db: Kysely<Database>, filters: Filters): Promise<void> {
  const letters = await listDeadLetters(db, filters, filters.json ? null : MOST);
  if (letters.length === 0) await refuseUnknown(db, filters.connection);
  if (filters.json) {
    for (const letter of letters) stdout.write(`${JSON.stringify(letter)}\n`);
    return;
  }
  const total = await countDeadLetters(db, filters);
  if (letters.length > 0)
    stdout.write(
      textTable(
        ['id', 'connection', 'kind', 'record', 'code', 'tries', 'last seen', 'resolved'],
        letters.map(cells),
      ),
    );
  stdout.write(
    total > letters.length ? `${total} entries, the newest ${letters.length} shown\n` : `${entries(total)}\n`,
  );
}

function entries(count: number): string {
  return count === 1 ? '1 entry' : `${count} entries`;
}

function cells(letter: DeadLetter): string[] {
  return [
    letter.quarantine_id,
    letter.connection_id,
    letter.kind,
    (letter.record_id ?? '–').slice(0, 30),
    letter.error_code ?? '–',
    `${letter.attempts}×`,
    letter.last_seen_at.toISOString().slice(0, 19),
    letter.resolution ?? '–',
  ];
}

async function show({ stdout }: Terminal, db: Kysely<Database>, id: string): Promise<void> {
  const letter = await readDeadLetter(db, id);
  if (letter === undefined) throw new CommandFailed(`there is no entry ${id}`);
  const { json, ...rest } = letter;
  for (const [name, value] of Object.entries(rest)) {
    const text = value instanceof Date ? value.toISOString() : printable(String(value ?? '–'));
    stdout.write(`${name.padEnd(16)}${text}\n`);
  }
  stdout.write('\n');
  // As it came, byte for byte, for whoever passes it on; a terminal obeys what is in it.
  stdout.write(stdout.isTTY ? printable(json.toString()) : json);
  stdout.write('\n');
}

/** Entries that were named and are not open: a mistyped number must not look like success.
 * @throws CommandFailed. */
function refuseMissing({ ids = [] }: DeadLetterFilter, found: number): void {
  const missing = new Set(ids).size - found;
  if (missing > 0)
    throw new CommandFailed(`${missing} of the entries named ${missing === 1 ? 'is' : 'are'} not open`);
}

async function retry(
  { stdout, signal }: Terminal,
  { db, settings }: Replica,
  filter: DeadLetterFilter,
): Promise<void> {
  let refused = 0;
  const ids = await deadLetterIds(db, filter);
  if (ids.length === 0) await refuseUnknown(db, filter.connection);
  for (const id of ids) {
    signal.throwIfAborted();
    const result = await retryDeadLetter(db, id, writingOf(settings));
    if ('refused' in result) refused++;
    const became =
      'applied' in result
        ? result.applied === 'stale'
          ? 'resolved: a newer row is there'
          : `resolved: ${result.applied}`
        : 'refused' in result
          ? `still refused: ${result.refused}: ${result.reason}`
          : 'suppressed' in result
            ? 'deleted: its person was erased, or it is older than RETAIN_MESSAGES'
            : 'resolved meanwhile';
    stdout.write(`${id}: ${became}\n`);
  }
  stdout.write(`${ids.length} retried, ${refused} still refused\n`);
  if (refused > 0) throw new CommandFailed(`${refused} of ${ids.length} cannot be stored`);
  refuseMissing(filter, ids.length);
}

async function discardAll(
  terminal: Terminal,
  db: Kysely<Database>,
  filter: DeadLetterFilter,
  yes: boolean,
): Promise<void> {
  const count = await countDeadLetters(db, filter);
  if (count === 0) await refuseUnknown(db, filter.connection);
  if (count > 0 && !yes) await confirm(terminal, `Discard ${entries(count)}?`);
  const discarded = await discard(db, filter);
  terminal.stdout.write(`${discarded} discarded\n`);
  refuseMissing(filter, discarded);
}
