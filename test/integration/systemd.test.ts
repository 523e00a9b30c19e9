import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const UNIT = fileURLToPath(new URL('../../deploy/systemd/wa-replica.service', import.meta.url));
const has = (program: string) => spawnSync('which', [program]).status === 0;

/** A datagram socket as systemd's: prints each message, and closes the descriptors of a barrier. */
const RECEIVER = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    data, anc, _, _ = s.recvmsg(65536, 4096)
    for level, kind, body in anc:
        fds = array.array("i"); fds.frombytes(body[:len(body) - len(body) % fds.itemsize])
        for fd in fds: os.close(fd)
    print(data.decode().replace("\\n", ";"), flush=True)
`;

describe.skipIf(!has('systemd-notify') || !has('python3'))('the notify protocol', () => {
  const database = useTestDatabase();
  const dir = mkdtempSync(path.join(tmpdir(), 'wa-replica-notify-'));
  let simulator: Simulator;
  beforeAll(async () => {
    simulator = await startSimulator({ messages: 100, connections: 2 });
  });
  afterAll(async () => {
    await simulator.close();
    rmSync(dir, { recursive: true, force: true });
  });

  // The second never gets to a sign of life by the clock: the status comes with the connections all the same.
  test.each([
    ['600000', 3],
    ['6000000000', 1],
  ])('READY, signs of life with a status, STOPPING: every %s µs', async (WATCHDOG_USEC, signs) => {
    const socket = path.join(dir, `notify-${WATCHDOG_USEC}`);
    const receiver = spawn('python3', ['-c', RECEIVER, socket]);
    let heard = '';
    receiver.stdout.setEncoding('utf8').on('data', (text: string) => {
      heard += text;
    });
    try {
      await waitFor(() => heard.includes('bound'), { what: 'the socket' });
      const env = {
        ...quickSettings(database.url, simulator.url),
        NOTIFY_SOCKET: socket,
        WATCHDOG_USEC,
      };
      const daemon = startCli(['run'], env);
      await waitFor(() => heard.includes('READY=1;STATUS=looking for connections'), { what: 'READY=1' });
      await waitFor(() => heard.split('WATCHDOG=1;STATUS=2 connections, 2 replicating').length > signs, {
        what: 'signs of life',
      });
      expect(heard.indexOf('EXTEND_TIMEOUT_USEC=')).toBeLessThan(heard.indexOf('READY=1'));
      expect(await daemon.kill('SIGTERM')).toBe(0);
      await waitFor(() => heard.includes('STOPPING=1'), { what: 'STOPPING=1' });
      expect(daemon.stderr).not.toContain('cannot notify systemd');
    } finally {
      receiver.kill('SIGKILL');
    }
  });
});

describe.skipIf(!has('systemd-analyze'))('the unit', () => {
  test('is well-formed, on stderr too', () => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', UNIT], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('is exposed less than 2.0', () => {
    const text = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', UNIT], {
      encoding: 'utf8',
    });
    const exposure = Number(/Overall exposure level[^:]*: ([\d.]+)/.exec(text)?.[1]);
    expect(exposure).toBeLessThan(2);
  });

  test('is started again however it ended, but after wrong settings', () => {
    const unit = readFileSync(UNIT, 'utf8');
    // SIGHUP, SIGINT and SIGTERM are no failures for systemd, whoever sent them.
    expect(unit).toMatch(/^Restart=always$/m);
    expect(unit).toMatch(/^RestartPreventExitStatus=2$/m);
  });

  test('what it says beside its log, such as which settings are wrong, is found by `-p warning`', () => {
    expect(readFileSync(UNIT, 'utf8')).toMatch(/^SyslogLevel=warning$/m);
  });

  test('leaves no memory on the disk where the watchdog aborts it', () => {
    expect(readFileSync(UNIT, 'utf8')).toMatch(/^LimitCORE=0$/m);
  });

  test('an unknown key would be found', () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'wa-replica-unit-'));
    const copy = path.join(dir, 'wa-replica.service');
    writeFileSync(copy, readFileSync(UNIT, 'utf8').replace('RestartSec=', 'RestartSeconds='));
    const { stderr } = spawnSync('systemd-analyze', ['verify', copy], { encoding: 'utf8' });
    rmSync(dir, { recursive: true });
    expect(stderr).toContain('RestartSeconds');
  });
});
