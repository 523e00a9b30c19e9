import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { steadyPort } from './steady-port.ts';
import { waitFor } from './wait.ts';

/** A TCP proxy on 127.0.0.1 that can be made to fail like a network. */
export interface TcpProxy {
  readonly port: number;
  /** Connections that are open now, dead ones included. */
  readonly open: number;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Resets every connection, both sides; new ones go on working. */
  cut(): void;
  /** From now on new connections are refused (ECONNREFUSED); those that exist go on. */
  refuse(): Promise<void>;
  /** From now on every connection, old or new, stays open and silent: bytes are swallowed both ways. */
  blackhole(): void;
  /** Each chunk, either way, arrives this many milliseconds later. */
  delay(ms: number): void;
  /** Ends refusing, swallowing and delaying for new connections. What was swallowed stays lost: those stay dead. */
  heal(): Promise<void>;
  /** Resets everything and stops listening. */
  close(): Promise<void>;
}

interface Link {
  readonly ends: Socket[];
  dead: boolean;
}

/** Starts a proxy in front of a server. */
export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const links = new Set<Link>();
  let accepted = 0;
  let delayMs = 0;
  let swallowing = false;

  const server = createServer({ allowHalfOpen: true }, (client) => {
    accepted += 1;
    const link: Link = { ends: [client], dead: swallowing };
    links.add(link);
    if (link.dead) {
      client.on('data', () => {});
    } else {
      const upstream = connect({ ...target, allowHalfOpen: true });
      link.ends.push(upstream);
      forward(client, upstream);
      forward(upstream, client);
    }
    for (const end of link.ends) {
      end.setNoDelay(true);
      end.on('error', () => {});
      end.on('close', () => {
        // A dead link tells the other side nothing, not even that this one has gone.
        if (link.dead && !link.ends.every((other) => other.destroyed)) return;
        links.delete(link);
        for (const other of link.ends) other.destroy();
      });
    }

    /** Keeps the order of chunks and of the end, even when the delay shrinks. */
    function forward(from: Socket, to: Socket): void {
      let lastDue = 0;
      const later = (act: () => void) => {
        const now = performance.now();
        const due = Math.max(lastDue, now + delayMs);
        lastDue = due;
        const unlessDead = () => {
          if (!link.dead && !to.destroyed) act();
        };
        if (due <= now) unlessDead();
        else setTimeout(unlessDead, due - now);
      };
      from.on('data', (chunk: Buffer) => later(() => to.write(chunk)));
      from.on('end', () => later(() => to.end()));
    }
  });

  const port = await steadyPort();
  await listen(server, port);
  const reset = () => {
    for (const link of links) for (const end of link.ends) end.resetAndDestroy();
    links.clear();
  };

  return {
    port,
    get open() {
      return links.size;
    },
    get accepted() {
      return accepted;
    },
    cut: reset,
    async refuse() {
      // Closing takes away the listening socket at once; its callback would wait for the connections.
      if (server.listening) server.close();
    },
    blackhole() {
      swallowing = true;
      for (const link of links) link.dead = true;
    },
    delay(ms) {
      delayMs = ms;
    },
    async heal() {
      swallowing = false;
      delayMs = 0;
      // The port was free for a while: somebody who looks for one may be trying it.
      if (!server.listening) {
        await waitFor(() => listen(server, port).then(() => true), { what: `port ${port} to be free again` });
      }
    },
    async close() {
      if (server.listening) server.close();
      reset();
    },
  };
}

async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
}
