import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fixedKey, keyInFile } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';

const { signal } = new AbortController();
let folder: string;
let file: string;
let server: Server;
let upstream: UpstreamClient;
/** The keys that are good; another is answered with the status. */
let good: string[];
let refusal: number;
/** The keys that were sent, in order. */
let sent: string[];

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-key-'));
  file = path.join(folder, 'key');
  [good, refusal, sent] = [['new'], 401, []];
  server = createServer(({ headers }, answer) => {
    const key = headers.authorization?.replace('Bearer ', '') ?? '';
    sent.push(key);
    answer.writeHead(good.includes(key) ? 200 : refusal).end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  upstream = new UpstreamClient({ baseUrl, requestTimeout: 30_000, maxSockets: 4, userAgent: 'test' });
});
afterEach(async () => {
  await upstream.close();
  server.close();
  rmSync(folder, { recursive: true });
});

describe('a key in a file that is refused', () => {
  test.each([401, 403])(
    'with %i is read again, and the request made once more with what is there',
    async (status) => {
      refusal = status;
      writeFileSync(file, 'new\n');
      const key = keyInFile(file, 0, 'old');
      expect(await upstream.me(key, signal)).toEqual({});
      expect(await upstream.me(key, signal)).toEqual({});
      expect(sent).toEqual(['old', 'new', 'new']);
    },
  );

  test('for several requests at once is the new one for all of them', async () => {
    writeFileSync(file, 'new');
    const key = keyInFile(file, 0, 'old');
    expect(await Promise.all([1, 2, 3].map(() => upstream.me(key, signal)))).toEqual([{}, {}, {}]);
  });

  test.each([
    ['is the same', 'old'],
    ['is gone', undefined],
    ['has fewer keys', ','],
    ['has what cannot be sent', 'new\nnewer'],
  ])('stays refused while the file %s, and is looked for again the next time', async (_, text) => {
    if (text !== undefined) writeFileSync(file, text);
    const key = keyInFile(file, 0, 'old');
    await expect(upstream.me(key, signal)).rejects.toMatchObject({ kind: 'unauthorized', status: 401 });
    expect(sent).toEqual(['old']);
    writeFileSync(file, 'new');
    expect(await upstream.me(key, signal)).toEqual({});
  });

  test('is that of its place, as the settings count them', async () => {
    writeFileSync(file, ' other,, other , new ');
    const [first, second] = [keyInFile(file, 0, 'old'), keyInFile(file, 1, 'old')];
    await expect(upstream.me(first, signal)).rejects.toMatchObject({ kind: 'unauthorized' });
    await upstream.me(second, signal);
    expect(sent).toEqual(['old', 'other', 'old', 'new']);
  });

  test('for another reason than the key is not', async () => {
    refusal = 404;
    writeFileSync(file, 'new');
    await expect(upstream.me(keyInFile(file, 0, 'old'), signal)).rejects.toMatchObject({ kind: 'not_found' });
    expect(sent).toEqual(['old']);
  });
});

test('a key that was given as it is stays what it is', async () => {
  await expect(upstream.me(fixedKey('old'), signal)).rejects.toMatchObject({ kind: 'unauthorized' });
  expect(sent).toEqual(['old']);
});
