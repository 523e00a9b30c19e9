import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { spool } from '../../src/media/spool.ts';
import { waitFor } from '../support/wait.ts';

test('a file is as long as was promised and as may be kept, or nothing is left of it', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const options = { folder, name: 'it', maxBytes: 100, idleTimeout: 60_000 };
  const { signal } = new AbortController();
  const open = new PassThrough();
  const refused = (code: string, kind = 'protocol') => expect.objectContaining({ kind, code });
  // What is told to be too large is not waited for, nor what comes of it kept open.
  await expect(spool(open, { ...options, length: 101, signal })).rejects.toEqual(
    refused('101 bytes or more', 'oversize'),
  );
  expect(open.destroyed).toBe(true);
  const endless = new PassThrough();
  endless.write(Buffer.alloc(101));
  await expect(spool(endless, { ...options, length: undefined, signal })).rejects.toEqual(
    refused('101 bytes or more', 'oversize'),
  );
  expect(endless.destroyed).toBe(true);
  const whole = (bytes: number) => new PassThrough().end(Buffer.alloc(bytes));
  await expect(spool(whole(99), { ...options, length: 100, signal })).rejects.toEqual(refused('cut'));
  await expect(spool(whole(0), { ...options, length: 0, signal })).rejects.toEqual(refused('empty'));
  expect(readdirSync(folder)).toEqual([]);
  expect((await spool(whole(100), { ...options, length: 100, signal })).bytes).toBe(100);
  // A name that somebody else has is not written over.
  await expect(spool(whole(1), { ...options, length: 1, signal })).rejects.toEqual(
    refused('EEXIST', 'media_store'),
  );
});

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
