import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { openMediaStore } from '../../src/media/open-store.ts';
import { S3_CREDENTIALS } from '../support/s3.ts';

test('a bucket that takes requests and does not answer is not waited for', async () => {
  Object.assign(process.env, S3_CREDENTIALS);
  const server = createServer(() => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const store = await openMediaStore(
    { kind: 's3', bucket: 'archive', prefix: '' },
    { endpoint, region: undefined, account: process.geteuid?.(), idleTimeout: 500 },
  );
  try {
    const location = store.locationOf('0'.repeat(64), null);
    await expect(store.has(location)).rejects.toMatchObject({ kind: 'media_store', code: 'TimeoutError' });
  } finally {
    store.close();
    server.closeAllConnections();
    server.close();
  }
});
