import { fstatSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { codeOf, recognize } from '../errors/errors.ts';
import { showsColours } from '../lib/colours.ts';

export type { Logger };

export interface LogOptions {
  readonly level: string;
  readonly format: 'json' | 'pretty';
  readonly stream: NodeJS.WritableStream;
  /** Whether the stream leads into systemd's journal. */
  readonly journal?: boolean;
}

/**
 * The log: one event per line, with stable names. Errors are logged as kind, code and place, never by their text,
 * which may quote a value or hold a URL with a password (R18).
 */
export function createLogger({ level, format, stream, journal = false }: LogOptions): Logger {
  const json = journal ? withPriorities(stream) : stream;
  const destination = format === 'pretty' ? prettified(stream) : json;
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}

/** Lines for people. No stream of pino-pretty's own, which writes nothing more once the disk was full. */
function prettified(stream: NodeJS.WritableStream): { write(line: string): void } {
  const pretty = prettyFactory({ ignore: 'pid,hostname', colorize: showsColours(stream) });
  return { write: (line) => void stream.write(pretty(line)) };
}

/** Syslog's priorities, by pino's levels. */
const PRIORITIES: Readonly<Record<number, number>> = { 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

/** Before each line its priority, as sd-daemon(3) has it: the journal takes that off, and `journalctl -p warning` finds it. */
function withPriorities(stream: NodeJS.WritableStream) {
  return {
    // Has pino set the level below before each line.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 30,
    write(line: string) {
      stream.write(`<${PRIORITIES[this.lastLevel] ?? 6}>${line}`);
    },
  };
}

/** Whether an open file leads into the journal.
 * @param stream what systemd says of it in `JOURNAL_STREAM`: the file may have been led elsewhere since. */
export function isJournal(fd: number, stream: string | undefined): boolean {
  if (!stream) return false;
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return stream === `${dev}:${ino}`;
}

/** The fields of an error that are safe to log. */
export function errorFields(error: unknown): Record<string, unknown> {
  const known = recognize(error);
  const fields = known
    ? { kind: known.kind, error: known.message, ...(known.hint === undefined ? {} : { hint: known.hint }) }
    : { kind: 'internal', error: codeOf(error) };
  return fields.kind === 'internal' ? { ...fields, at: framesOf(error) } : fields;
}

/** The place in our own code; frames hold no values, the line before them does. */
function framesOf(error: unknown): string[] {
  const stack = error instanceof Error ? (error.stack ?? '').split('\n') : [];
  const frames = stack.filter((line) => /^\s+at /.test(line));
  return frames.slice(0, 4).map((line) => line.trim());
}
