import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { roughDuration } from '../lib/durations.ts';
import { placesOf } from '../store/media-files.ts';
import { countMedia, type MediaCounts, retryMedia } from '../store/media-report.ts';
import { refuseUnknown } from './connection-option.ts';
import { onTables } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** `wa-replica media`: the archive of attachments. Needs the database alone. */
export function mediaCommand(terminal: Terminal): Command {
  const command = new Command('media').description(
    'the attachments: how many are kept, which are missing, where one is',
  );
  command.addCommand(statusCommand(terminal));
  command.addCommand(retryCommand(terminal));
  command.addCommand(pathCommand(terminal));
  return command;
}

const NOT_FETCHED = 'wa-replica: MEDIA_STORE is off: none is fetched\n';

function statusCommand(terminal: Terminal): Command {
  const { stdout } = terminal;
  return new Command('status')
    .description('attachments by connection and state, and why some are missing')
    .option('--connection <id>', 'of this connection')
    .option('--json', 'a JSON object a line')
    .action(async ({ connection, json }: { connection?: string; json?: true }) => {
      await onTables(terminal, async ({ maintenance: db, settings }) => {
        const counts = await countMedia(db, connection);
        if (counts.length === 0) await refuseUnknown(db, connection);
        if (json) for (const one of counts) stdout.write(`${JSON.stringify(one)}\n`);
        else stdout.write(counts.length === 0 ? 'no attachments\n' : textTable(HEAD, counts.map(cells)));
        if (settings.MEDIA_STORE === 'off') terminal.stderr.write(NOT_FETCHED);
      });
    });
}

const HEAD = ['connection', 'stored', 'bytes', 'pending', 'oldest', 'unavailable', 'failed', 'errors'];

function cells(one: MediaCounts): string[] {
  const errors = Object.entries(one.errors).map(([kind, count]) => `${kind} ${count}`);
  return [
    one.connection_id,
    one.stored,
    size(Number(one.bytes)),
    one.pending,
    one.pending === '0' ? '–' : roughDuration(one.oldest_pending_seconds),
    one.unavailable,
    one.failed,
    errors.length === 0 ? '–' : errors.join(', '),
  ];
}

function retryCommand(terminal: Terminal): Command {
  return new Command('retry')
    .description('makes attachments due now: those that wait for another try, and those that failed')
    .option('--connection <id>', 'of this connection')
    .option('--message <id...>', 'of these messages')
    .addOption(new Option('--unavailable', 'those too of which the upstream said that there is none'))
    .action(async (options: { connection?: string; message?: string[]; unavailable?: true }) => {
      await onTables(terminal, async ({ maintenance: db, settings }) => {
        const { connection, message: messages } = options;
        const states = [
          'pending' as const,
          'failed' as const,
          ...(options.unavailable ? (['unavailable'] as const) : []),
        ];
        const count = await retryMedia(db, { connection, messages, states });
        if (count === 0) await refuseUnknown(db, connection);
        terminal.stdout.write(`${count} ${count === 1 ? 'attachment is' : 'attachments are'} due\n`);
        if (settings.MEDIA_STORE === 'off') terminal.stderr.write(NOT_FETCHED);
        if (count === 0 && messages !== undefined)
          throw new CommandFailed('none of these messages waits for an attachment; see `media path`');
      });
    });
}

function pathCommand(terminal: Terminal): Command {
  return new Command('path')
    .description("prints where a message's attachment is: a path, or an s3:// URL")
    .argument('<message-id>', 'the message')
    .option('--connection <id>', 'of this connection; needed where several have such a message')
    .action(async (messageId: string, { connection }: { connection?: string }) => {
      await onTables(terminal, async ({ maintenance: db }) => {
        const places = await placesOf(db, messageId, connection);
        const [place] = places;
        if (place === undefined) {
          await refuseUnknown(db, connection);
          throw new CommandFailed('no attachment of such a message is in the archive or its queue');
        }
        if (places.length > 1) {
          const ids = places.map((one) => one.connection_id).join(', ');
          throw new CommandFailed(`several connections have such a message: give --connection (${ids})`);
        }
        const { state, location, error } = place;
        if (location === null) {
          throw new CommandFailed(`the attachment is ${state}${error === null ? '' : ` (${error})`}`);
        }
        const path = location.startsWith('file:') ? fileURLToPath(location) : location;
        terminal.stdout.write(`${path}\n`);
      });
    });
}

/** Bytes for people. */
function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, bytes === 0 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`;
}
