import { type Logger, pino } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { codeOf, recognize } from '../errors/errors.ts';
import { showsColours } from '../lib/colours.ts';

export type { Logger };

export interface LogOptions {
  readonly level: string;
  readonly format: 'json' | 'pretty';
  readonly stream: NodeJS.WritableStream;
}

/**
 * The log: one event per line, with stable names. Errors are logged as kind, code and place, never by their text,
 * which may quote a value or hold a URL with a password (R18).
 */
export function createLogger({ level, format, stream }: LogOptions): Logger {
  const destination = format === 'pretty' ? prettified(stream) : stream;
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
