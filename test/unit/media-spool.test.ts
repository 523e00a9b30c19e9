import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { spool } from '../../src/media/spool.ts';
import { waitFor } from '../support/wait.ts';

test('a file may take long while something of it comes, and no longer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => {
    vi.useRealTimers();
    rmSync(folder, { recursive: true });
  });
  const begin = (name: string) => {
    const body = new PassThrough();
    const options = { folder, name, length: undefined, maxBytes: 100, idleTimeout: 1_000 };
    const whole = spool(body, { ...options, signal: new AbortController().signal });
    /** What comes is written before the time passes. */
    const comes = async (bytes: number, ms: number) => {
      const before = statSync(path.join(folder, name), { throwIfNoEntry: false })?.size ?? 0;
      body.write(Buffer.alloc(bytes, 'x'));
      await waitFor(() => statSync(path.join(folder, name)).size === before + bytes, { what: 'the piece' });
      vi.advanceTimersByTime(ms);
    };
    return { body, whole, comes };
  };
  const slow = begin('slow');
  for (let piece = 1; piece <= 4; piece++) await slow.comes(piece, 999);
  slow.body.end();
  const { path: file, bytes } = await slow.whole;
  expect([bytes, readFileSync(file, 'utf8')]).toEqual([10, 'x'.repeat(10)]);

  const still = begin('still');
  const refused = expect(still.whole).rejects.toMatchObject({ kind: 'timeout', code: 'REQUEST_TIMEOUT' });
  await still.comes(1, 999);
  await still.comes(1, 1_000);
  await refused;
  expect(statSync(path.join(folder, 'still'), { throwIfNoEntry: false })).toBeUndefined();
});
