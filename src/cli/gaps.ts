import { Argument, Command, InvalidArgumentError } from 'commander';
import { acknowledgeGaps, type GapRow, listGaps } from '../store/gaps.ts';
import { refuseUnknown } from './connection-option.ts';
import { onTables } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** `wa-replica gaps`: what the upstream forgot before it was replicated (R17). Needs the database alone. */
export function gapsCommand(terminal: Terminal): Command {
  const { stdout } = terminal;
  const command = new Command('gaps').description(
    'times of which the upstream forgot messages before they were replicated',
  );
  command.addCommand(
    new Command('list')
      .description('the open ones: shown in status, page, /readyz and metrics until they are acknowledged')
      .option('--connection <id>', 'of this connection')
      .option('--all', 'the acknowledged ones, too')
      .option('--json', 'a JSON object a line')
      .action(async (options: { connection?: string; all?: true; json?: true }) => {
        await onTables(terminal, async ({ db }) => {
          const gaps = await listGaps(db, options);
          if (gaps.length === 0) await refuseUnknown(db, options.connection);
          if (options.json) for (const gap of gaps) stdout.write(`${JSON.stringify(gap)}\n`);
          else stdout.write(gaps.length === 0 ? 'no gaps\n' : textTable(HEAD, gaps.map(cells)));
        });
      }),
  );
  command.addCommand(
    new Command('ack')
      .description('acknowledges gaps: they stay in the list of all, and are shown nowhere else any more')
      .addArgument(
        new Argument('<ids...>', 'the numbers of the gaps').argParser(
          (text: string, ids: string[] | undefined) => [...(ids ?? []), gapId(text)],
        ),
      )
      .option('--note <text>', 'what is known or was done about it')
      .action(async (ids: string[], { note }: { note?: string }) => {
        await onTables(terminal, async ({ db }) => {
          const done = await acknowledgeGaps(db, ids, note ?? null);
          stdout.write(`${done.length} acknowledged\n`);
          const missing = ids.filter((id) => !done.includes(id));
          if (missing.length > 0)
            throw new CommandFailed(`not open: ${missing.join(', ')}; see \`gaps list\``);
        });
      }),
  );
  return command;
}

const HEAD = ['id', 'connection', 'lost from', 'to', 'found by', 'recorded', 'acknowledged', 'note'];

function cells(gap: GapRow): string[] {
  return [
    gap.gap_id,
    gap.connection_id,
    minute(gap.gap_from),
    minute(gap.gap_to),
    gap.found_by,
    minute(gap.recorded_at),
    gap.acknowledged_at === null ? '–' : minute(gap.acknowledged_at),
    gap.note ?? '',
  ];
}

function minute(time: Date): string {
  return time.toISOString().slice(0, 16).replace('T', ' ');
}

function gapId(text: string): string {
  if (!/^\d{1,18}$/.test(text))
    throw new InvalidArgumentError('the number of a gap is wanted; see `gaps list`');
  return text;
}
