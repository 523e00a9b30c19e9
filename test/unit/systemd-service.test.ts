import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createNotifier, Service } from '../../src/ops/systemd.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';

test('a loop that is hung gives systemd no sign of life, and its status all the same', async () => {
  const sent: string[] = [];
  let healthy = true;
  const notifier = { watchdog: 30, send: async (...lines: string[]) => void sent.push(lines.join(' ')) };
  const service = new Service(notifier, { healthy: () => healthy, status: () => 'as it stands' });
  onTestFinished(() => service.end());
  await service.ready();
  expect(sent).toEqual(['READY=1 STATUS=as it stands']);
  await waitFor(() => sent.includes('WATCHDOG=1 STATUS=as it stands'), { what: 'a sign of life' });
  healthy = false;
  sent.length = 0;
  await waitFor(() => sent.length > 2, { what: 'its status' });
  expect(new Set(sent)).toEqual(new Set(['STATUS=as it stands']));
});

test('a start asks for more time in time, a service gives three signs of life a watchdog, and its end none', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const sent: string[] = [];
  const during = (ms: number) => {
    sent.length = 0;
    vi.advanceTimersByTime(ms);
    return sent.map((lines) => lines.split(' ')[0]);
  };
  const notifier = { watchdog: 60_000, send: async (...lines: string[]) => void sent.push(lines.join(' ')) };
  const service = new Service(notifier, { healthy: () => true, status: () => 'as it stands' });
  service.starting();
  expect(sent).toEqual(['EXTEND_TIMEOUT_USEC=60000000 STATUS=preparing the schema']);
  expect(during(30_000)).toEqual(Array(3).fill('EXTEND_TIMEOUT_USEC=60000000'));
  await service.ready();
  expect(during(60_000)).toEqual(Array(3).fill('WATCHDOG=1'));
  const stopping = service.stopping(20_000);
  expect(sent.at(-1)).toBe('STOPPING=1 EXTEND_TIMEOUT_USEC=20000000 STATUS=stopping');
  await stopping;
  expect(during(600_000)).toEqual([]);
});

test('that systemd cannot be told is told once an outage', async () => {
  const { log, lines } = logLines();
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const notifier = createNotifier({ NOTIFY_SOCKET: '/there', PATH: folder }, log)!;
  const command = path.join(folder, 'systemd-notify');
  for (let outages = 1; outages <= 2; outages++) {
    for (let times = 0; times < 3; times++) await notifier.send('WATCHDOG=1');
    expect(lines.map(({ msg }) => msg)).toEqual(Array(outages).fill('cannot notify systemd'));
    writeFileSync(command, '#!/bin/sh\n', { mode: 0o755 });
    await notifier.send('WATCHDOG=1');
    rmSync(command);
  }
});

test('a systemd-notify that hangs does not hold up the start', async () => {
  const { log, lines } = logLines();
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(path.join(folder, 'systemd-notify'), '#!/bin/sh\nexec /bin/sleep 60\n', { mode: 0o755 });
  const notifier = createNotifier({ NOTIFY_SOCKET: '/there', PATH: folder }, log);
  const service = new Service(notifier, { healthy: () => true, status: () => 'as it stands' });
  onTestFinished(() => service.end());
  let ready = false;
  void service.ready().then(() => {
    ready = true;
  });
  await waitFor(() => ready, { what: 'the start', deadlineMs: 30_000 });
  expect(lines).toMatchObject([{ level: 'warn', msg: 'cannot notify systemd' }]);
});

test('systemd is told only where it wants to hear, and its watchdog is in milliseconds', () => {
  const { log } = logLines();
  const watchdogOf = (WATCHDOG_USEC?: string) =>
    createNotifier({ NOTIFY_SOCKET: '/there', WATCHDOG_USEC }, log)?.watchdog;
  expect(watchdogOf('60000000')).toBe(60_000);
  for (const none of [undefined, '', '0', 'x', '-1'])
    expect([none, watchdogOf(none)]).toEqual([none, undefined]);
  for (const env of [{}, { NOTIFY_SOCKET: '' }]) expect(createNotifier(env, log)).toBeUndefined();
});
