import type { ConnectionStatus } from '../store/status.ts';

/** Rows and time of a look before, for a rate. */
export interface Look {
  readonly rows: number;
  /** A reading of the monotonic clock, in milliseconds. */
  readonly at: number;
}

export function rowsOf(status: ConnectionStatus): number {
  const { conversations, contacts, messages } = status.rows;
  return Number(conversations) + Number(contacts) + Number(messages);
}

/** The connections as a table of fixed columns, a line each. */
export function connectionTable(
  statuses: readonly ConnectionStatus[],
  before: ReadonlyMap<string, Look>,
  at: number,
): string[] {
  const lines = statuses.map((status) => {
    const rows = rowsOf(status);
    const look = before.get(status.connection_id);
    const rate = look === undefined ? 0 : (rows - look.rows) / Math.max(0.001, (at - look.at) / 1000);
    return [
      status.connection_id,
      status.state,
      rows.toLocaleString('en'),
      rate.toFixed(1),
      `${status.lag_seconds.toFixed(1)} s`,
    ];
  });
  const header = ['connection', 'state', 'rows', 'rows/s', 'lag'];
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]!.length)));
  const pad = (line: readonly string[]) =>
    line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return [header, ...lines].map(pad);
}
