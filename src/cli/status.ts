import { styleText } from 'node:util';
import { Command } from 'commander';
import { remedy } from '../errors.ts';
import { humanDuration } from '../lib/durations.ts';
import { sleep } from '../lib/wait.ts';
import { readReport, type StatusReport } from '../ops/status.ts';
import type { Replica } from '../replica.ts';
import { requireCurrentSchema } from '../store/migrator.ts';
import type { ConnectionState, ConnectionStatus } from '../store/status.ts';
import { withReplica } from './session.ts';
import type { Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** How often `--watch` looks, in milliseconds. */
const WATCH_EVERY = 2_000;

/** `wa-replica status`: where every connection stands. Needs the database alone. */
export function statusCommand(terminal: Terminal): Command {
  return new Command('status')
    .description('where every connection stands: state, cursor, rows, lag, window left, last error, worker')
    .option('--json', 'as JSON, for programs; the form is documented and stable')
    .option('--watch', 'look again every two seconds, until Ctrl-C')
    .action(async (options: { json?: true; watch?: true }) => {
      await withReplica(terminal, { needsUpstream: false, listen: () => () => {} }, async (replica) => {
        await requireCurrentSchema(replica.db, replica.settings.WA_REPLICA_SCHEMA);
        if (!options.watch) await show(terminal, replica, options.json === true);
        else await watch(terminal, replica, options.json === true);
      });
    });
}

async function watch(terminal: Terminal, replica: Replica, json: boolean): Promise<void> {
  const { stdout, signal } = terminal;
  while (!signal.aborted) {
    // Home and clear below: no flicker, and nothing of the scrollback is lost.
    if (stdout.isTTY && !json) stdout.write('\u001b[H\u001b[J');
    await show(terminal, replica, json);
    await sleep(WATCH_EVERY, signal);
  }
}

async function show({ stdout }: Terminal, { db, settings }: Replica, json: boolean): Promise<void> {
  const report = await readReport(db, {
    schema: settings.WA_REPLICA_SCHEMA,
    leaseTtl: settings.LEASE_TTL,
    window: settings.RETENTION_WINDOW,
  });
  stdout.write(json ? `${JSON.stringify(report)}\n` : describe(report, stdout.isTTY === true));
}

/** The report as a table of at most 100 columns, and a line of explanation for each that needs one. */
export function describe(report: StatusReport, colour: boolean): string {
  const { connections, workers } = report;
  if (connections.length === 0)
    return 'no connections are known yet: start `wa-replica run` or `wa-replica sync`\n';
  const head = ['connection', 'state', 'cursor', 'rows', 'caught up', 'lag', 'window', 'worker'];
  const lines = textTable(head, connections.map(cells)).trimEnd().split('\n');
  const painted = lines.map((line, i) =>
    i === 0 || !colour ? line : paint(line, connections[i - 1]!.state),
  );
  const notes = connections.flatMap(note);
  const alive = workers.map((one) => `${one.worker_id} (${one.connections})`).join(', ');
  return `${[...painted, '', ...notes, `workers: ${alive === '' ? 'none alive' : alive}`].join('\n')}\n`;
}

const COLOURS: Partial<Record<ConnectionState, 'green' | 'yellow' | 'red' | 'dim'>> = {
  live: 'green',
  catching_up: 'yellow',
  starting: 'yellow',
  backing_off: 'yellow',
  parked: 'red',
  stalled: 'red',
  removed: 'dim',
};

function paint(line: string, state: ConnectionState): string {
  const colour = COLOURS[state];
  return colour === undefined
    ? line
    : line.replace(state, styleText(colour, state, { validateStream: false }));
}

function cells(status: ConnectionStatus): string[] {
  const { conversations, contacts, messages } = status.rows;
  const rows = BigInt(conversations) + BigInt(contacts) + BigInt(messages);
  return [
    cut(status.connection_id, 22),
    status.state,
    cut(status.cursor, 19),
    rows.toString(),
    status.caught_up_at?.slice(5, 16).replace('T', ' ') ?? '–',
    compact(status.lag_seconds),
    compact(status.window_left_seconds),
    cut(status.worker ?? '–', 13),
  ];
}

/** One unit only: a column is narrow. */
function compact(seconds: number): string {
  const text = humanDuration(seconds).split(' ');
  return `${text[0]}${text[1]}`;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

function note(status: ConnectionStatus): string[] {
  const lines: string[] = [];
  if (status.last_error_kind !== null) {
    const what = remedy(status.last_error_kind);
    const advice = what === undefined ? '' : `\n    ${what}`;
    lines.push(
      `${status.connection_id}: ${status.last_error_kind}: ${status.last_error}, ${status.consecutive_failures} failures in a row${advice}`,
    );
  }
  if (status.quarantined !== '0') {
    lines.push(
      `${status.connection_id}: ${status.quarantined} records in quarantine, see \`wa-replica quarantine list\``,
    );
  }
  return lines;
}
