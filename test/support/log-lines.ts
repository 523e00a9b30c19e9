import { Writable } from 'node:stream';
import { createLogger, type Logger } from '../../src/ops/logger.ts';

/** A log whose lines are kept, as the JSON that they are; without their times. */
export function logLines(level = 'info'): {
  log: Logger;
  lines: Record<string, unknown>[];
  /** Forgets the lines that there are. */
  empty(): void;
} {
  const lines: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      const { time: _time, ...line } = JSON.parse(chunk.toString());
      lines.push(line);
      done();
    },
  });
  return { log: createLogger({ level, format: 'json', stream }), lines, empty: () => void lines.splice(0) };
}
