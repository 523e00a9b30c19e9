import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';

/** A proxy on 127.0.0.1 that connects to whatever port is asked for on this machine, whatever the host's name. */
export interface HttpProxy {
  readonly port: number;
  /** What it was asked to connect to, and as whom, in order. */
  readonly asked: readonly { readonly to: string; readonly as: string | undefined }[];
  close(): Promise<void>;
}

/** @param mute it takes requests to connect, and answers none. */
export async function startHttpProxy({ mute = false } = {}): Promise<HttpProxy> {
  const asked: { to: string; as: string | undefined }[] = [];
  const open = new Set<Duplex>();
  const keep = (socket: Duplex) => {
    open.add(socket);
    socket.on('error', () => {}).on('close', () => open.delete(socket));
  };
  const server = createServer();
  server.on('connect', ({ url = '', headers }, client: Duplex) => {
    keep(client);
    asked.push({ to: url, as: headers['proxy-authorization'] });
    if (mute) return;
    const target = connect({ host: '127.0.0.1', port: Number(url.split(':').at(-1)) }, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(target).pipe(client);
    });
    keep(target);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    async close() {
      for (const socket of open) socket.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
