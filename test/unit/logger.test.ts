import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createLogger } from '../../src/ops/logger.ts';

test('in the journal every level has the priority of syslog, and the line is as elsewhere', () => {
  let text = '';
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  const log = createLogger({ level: 'debug', format: 'json', stream, journal: true });
  for (const level of ['debug', 'info', 'warn', 'error', 'fatal'] as const) log[level]({ n: 1 }, level);
  const lines = text.trimEnd().split('\n');
  expect(lines.map((line) => line.slice(0, 3))).toEqual(['<7>', '<6>', '<4>', '<3>', '<2>']);
  for (const line of lines) {
    const { level, msg, n } = JSON.parse(line.slice(3)) as Record<string, unknown>;
    expect([msg, n]).toEqual([level, 1]);
  }
});
