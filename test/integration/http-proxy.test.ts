import { describe, expect, onTestFinished, test } from 'vitest';
import { startSimulator } from '../../src/simulator/server.ts';
import { runCli } from '../support/cli.ts';
import { useTestDatabase } from '../support/database.ts';
import { startHttpProxy } from '../support/http-proxy.ts';
import { HAS_OPENSSL, startHttps } from '../support/https.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';

describe.skipIf(!HAS_OPENSSL)('HTTPS_PROXY', () => {
  const database = useTestDatabase();

  test('is how the upstream is reached, with its password, but where NO_PROXY names it', async () => {
    const simulator = await startSimulator({ messages: 50, connections: ['conn_a'] });
    onTestFinished(() => simulator.close());
    // No name that anybody but the proxy could find.
    const https = await startHttps(simulator.url, 'api.example');
    onTestFinished(() => https.close());
    const proxy = await startHttpProxy();
    onTestFinished(() => proxy.close());
    const { port } = new URL(https.url);
    const env = {
      ...quickSettings(database.url, `https://api.example:${port}`),
      NODE_EXTRA_CA_CERTS: https.certificate,
      HTTPS_PROXY: `http://somebody:s3cr3t@127.0.0.1:${proxy.port}`,
    };
    const { status, stdout, stderr } = await runCli(['sync'], env);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).not.toContain('s3cr3t');
    expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
    const as = `Basic ${Buffer.from('somebody:s3cr3t').toString('base64')}`;
    expect(new Set(proxy.asked.map((one) => JSON.stringify(one)))).toEqual(
      new Set([JSON.stringify({ to: `api.example:${port}`, as })]),
    );
    const before = proxy.asked.length;
    const past = { WHATSAPP_USE_BASE_URL: simulator.url, HTTP_PROXY: env.HTTPS_PROXY, NO_PROXY: '127.0.0.1' };
    expect(await runCli(['sync'], { ...env, ...past })).toMatchObject({ status: 0, stderr: '' });
    expect(proxy.asked.length).toBe(before);
  });
});
