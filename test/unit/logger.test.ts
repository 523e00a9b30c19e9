import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { createLogger } from '../../src/ops/logger.ts';

/** As `process.stderr` is, also on a disk that is full: it tells, and stays open. */
class Disk extends EventEmitter {
  isFull = false;
  written = '';

  write(text: string): boolean {
    if (this.isFull) this.emit('error', Object.assign(new Error('full'), { code: 'ENOSPC' }));
    else this.written += text;
    return true;
  }
}

test('in the journal every level has the priority of syslog, and the line is as elsewhere', () => {
  const disk = new Disk();
  const stream = disk as unknown as NodeJS.WritableStream;
  const log = createLogger({ level: 'debug', format: 'json', stream, journal: true });
  for (const level of ['debug', 'info', 'warn', 'error', 'fatal'] as const) log[level]({ n: 1 }, level);
  const lines = disk.written.trimEnd().split('\n');
  expect(lines.map((line) => line.slice(0, 3))).toEqual(['<7>', '<6>', '<4>', '<3>', '<2>']);
  for (const line of lines) {
    const { level, msg, n } = JSON.parse(line.slice(3)) as Record<string, unknown>;
    expect([msg, n]).toEqual([level, 1]);
  }
});

test.each(['json', 'pretty'] as const)('%s goes on once the disk has room again', async (format) => {
  const disk = new Disk();
  disk.on('error', () => {});
  const stream = disk as unknown as NodeJS.WritableStream;
  const log = createLogger({ level: 'info', format, stream });
  for (const [msg, isFull] of [
    ['before', false],
    ['lost', true],
    ['after', false],
  ] as const) {
    disk.isFull = isFull;
    log.info(msg);
    await new Promise(setImmediate);
  }
  expect(disk.written).toContain('before');
  expect(disk.written).not.toContain('lost');
  expect(disk.written).toContain('after');
});
