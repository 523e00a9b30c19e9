import { expect, onTestFinished, test } from 'vitest';
import { Service } from '../../src/ops/systemd.ts';
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
