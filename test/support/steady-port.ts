import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** The lowest port that is looked at. */
const LOWEST = 10_000;

/**
 * A free port for a server that gives it up for a while and wants it back. Below those that the system lends to outgoing
 * connections: one of these that began meanwhile would keep the port until a minute after its end.
 */
export async function steadyPort(): Promise<number> {
  for (;;) {
    const port = LOWEST + Math.floor(Math.random() * (lowestLent() - LOWEST));
    if (await isFree(port)) return port;
  }
}

function lowestLent(): number {
  try {
    const lowest = Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
    // A system that lends nearly all of them leaves nothing better.
    if (lowest > LOWEST + 1_000) return lowest;
  } catch {
    // Not a Linux.
  }
  return 32_768;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
