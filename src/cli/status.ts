import { styleText } from 'node:util';
import { Command } from 'commander';
import { codeOf, mayPass } from '../errors/errors.ts';
import { remedyOf } from '../errors/remedies.ts';
import { showsColours } from '../lib/colours.ts';
import { roughDuration } from '../lib/durations.ts';
import { plural } from '../lib/plural.ts';
import { sleep } from '../lib/wait.ts';
import { readReport, type StatusReport } from '../ops/status.ts';
import type { Replica } from '../replica/replica.ts';
import type { ConnectionState, ConnectionStatus, VerificationStatus } from '../store/status.ts';
import { onTables } from './session.ts';
import { printable, ReaderGone, type Terminal, written } from './terminal.ts';
import { textTable } from './text-table.ts';

/** How often `--watch` looks, in milliseconds. */
const WATCH_EVERY = 2_000;

/** `wa-replica status`: where every connection stands. Needs the database alone. */
export function statusCommand(terminal: Terminal): Command {
  return new Command('status')
    .description('where every connection stands: state, cursor, rows, lag, window left, last error, worker')
    .option('--json', 'as JSON, for programs; the form is stable')
    .option('--watch', 'look again every two seconds, until Ctrl-C')
    .action(async (options: { json?: true; watch?: true }) => {
      await onTables(terminal, async (replica) => {
        if (!options.watch) terminal.stdout.write(await told(terminal, replica, options.json === true));
        else await watch(terminal, replica, options.json === true);
      });
    });
}

async function watch(terminal: Terminal, replica: Replica, json: boolean): Promise<void> {
  const { stdout, signal } = terminal;
  // Home and clear below, together with what is new: no flicker, and nothing of the scrollback is lost.
  const clear = stdout.isTTY && !json ? '\u001b[H\u001b[J' : '';
  while (!signal.aborted) {
    try {
      await written(terminal, clear + (await told(terminal, replica, json)));
    } catch (error) {
      if (error instanceof ReaderGone || signal.aborted) return;
      // Whoever watches wants to see the end of an outage, too; nothing else ends by itself.
      if (!mayPass(error)) throw error;
      stdout.write(clear);
      terminal.stderr.write(`wa-replica: the database does not answer (${codeOf(error)})\n`);
    }
    await sleep(WATCH_EVERY, signal);
  }
}

async function told({ stdout }: Terminal, { db, settings }: Replica, json: boolean): Promise<string> {
  const report = await readReport(db, {
    schema: settings.WA_REPLICA_SCHEMA,
    leaseTtl: settings.LEASE_TTL,
    window: settings.RETENTION_WINDOW,
  });
  return json ? `${JSON.stringify(report)}\n` : describe(report, showsColours(stdout));
}

/** What a table may take of a terminal, in columns. */
const WIDTH = 100;
/** What is left of an id and of a worker's name at the least; `…` included. */
const SHORTEST = 9;

/** The report as a table of at most 100 columns, and a line of explanation for each that needs one. */
export function describe({ connections, workers }: StatusReport, colour: boolean): string {
  if (connections.length === 0)
    return 'no connections are known yet: start `wa-replica run` or `wa-replica sync`\n';
  const lines = tableOf(connections);
  const at = lines[0]!.indexOf('state');
  const painted = lines.map((line, i) =>
    i === 0 || !colour ? line : paint(line, at, connections[i - 1]!.state),
  );
  const alive = workers.map((one) => `${one.worker_id} (${one.connections})`).join(', ');
  const end = `workers: ${alive === '' ? 'none alive' : alive}; times in UTC`;
  return `${[...painted, '', ...connections.flatMap(note), end].join('\n')}\n`;
}

function tableOf(connections: readonly ConnectionStatus[]): string[] {
  const head = ['connection', 'state', 'cursor', 'rows', 'caught up', 'lag', 'window', 'worker'];
  const draw = (idWidth: number, workerWidth: number) =>
    textTable(
      head,
      connections.map((one) => cells(one, idWidth, workerWidth)),
    ).split('\n');
  const widest = (lines: readonly string[]) => Math.max(...lines.map((line) => line.length));
  // The ids have what the other columns leave; the workers' names are shortened first.
  const full = widest(draw(WIDTH, WIDTH));
  if (full <= WIDTH) return draw(WIDTH, WIDTH).slice(0, -1);
  const rest = widest(draw(SHORTEST, SHORTEST)) - Math.max(SHORTEST, head[0]!.length);
  return draw(Math.max(SHORTEST, WIDTH - rest), SHORTEST).slice(0, -1);
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

function paint(line: string, at: number, state: ConnectionState): string {
  const painted = styleText(COLOURS[state] ?? 'dim', state, { validateStream: false });
  return line.slice(0, at) + painted + line.slice(at + state.length);
}

function cells(status: ConnectionStatus, idWidth: number, workerWidth: number): string[] {
  const { conversations, contacts, messages } = status.rows;
  const rows = BigInt(conversations) + BigInt(contacts) + BigInt(messages);
  return [
    cut(printable(status.connection_id), idWidth),
    status.state,
    status.cursor,
    rows.toString(),
    status.caught_up_at?.slice(5, 16).replace('T', ' ') ?? '–',
    compact(status.lag_seconds),
    compact(status.window_left_seconds),
    cut(status.worker ?? '–', workerWidth),
  ];
}

/** One unit only: a column is narrow. */
function compact(seconds: number): string {
  return roughDuration(seconds).replace(' ', '');
}

/** Ids and names that belong together begin alike, and differ at the end. */
function cut(text: string, width: number): string {
  if (text.length <= width) return text;
  const end = Math.ceil((width - 1) / 2);
  return `${text.slice(0, width - 1 - end)}…${text.slice(text.length - end)}`;
}

function note(status: ConnectionStatus): string[] {
  const lines: string[] = [];
  const id = printable(status.connection_id);
  // What hindered one that is removed hinders nobody, and nothing can be compared with any more.
  const gone = status.state === 'removed';
  if (status.last_error_kind !== null && !gone) {
    const what = remedyOf({ kind: status.last_error_kind, message: status.last_error });
    const advice = what === undefined ? '' : `\n    ${what}`;
    lines.push(
      `${id}: ${status.last_error_kind}: ${status.last_error}, ${plural(status.consecutive_failures, 'failure')} in a row${advice}`,
    );
  }
  if (status.quarantined !== '0') {
    lines.push(`${id}: ${status.quarantined} in quarantine, see \`wa-replica quarantine list\``);
  }
  if (status.window_alarm !== null) {
    const least = status.window_alarm === 'error' ? 'a quarter' : 'half';
    lines.push(`${id}: less than ${least} of the window is left: then the upstream forgets what is missing`);
  }
  if (status.gaps !== '0') {
    lines.push(`${id}: ${plural(status.gaps, 'gap')}, see \`wa-replica gaps list\``);
  }
  if (!gone) lines.push(...verified(id, status.verification));
  return lines;
}

/** What the last verification found, where it is worth a line. */
function verified(id: string, verification: VerificationStatus | null): string[] {
  if (verification === null) return [];
  const { state, remaining, ledger_problems, error_kind, error, finished_at } = verification;
  const at = finished_at.slice(5, 16).replace('T', ' ');
  if (state === 'failed') return [`${id}: the verification of ${at} failed: ${error_kind}: ${error}`];
  if (remaining === '0' && ledger_problems === 0) return [];
  return [
    `${id}: the verification of ${at} found ${plural(remaining, 'difference')}, ${plural(ledger_problems, 'problem')} in the ledger;` +
      `\n    see \`wa-replica verify\`, which mends with --repair`,
  ];
}
