import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll } from 'vitest';

interface AlertEvent {
  readonly id: string;
  readonly type: string;
  readonly payload: {
    readonly since: string;
    readonly lost_from: string;
    readonly lag_seconds: number;
    readonly window_left_seconds: number;
  };
}

interface Received {
  readonly path: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly event: AlertEvent;
}

/** Takes alerts while the tests of a file run; what it has is forgotten after each. */
export class AlertReceiver {
  received: Received[] = [];
  /** How the next ones are answered, 0 for not at all; 204 where there is none left. */
  statuses: number[] = [];
  url!: URL;

  constructor() {
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on('end', () => {
        this.received.push({ path: request.url, headers: request.headers, body, event: JSON.parse(body) });
        const status = this.statuses.shift() ?? 204;
        if (status !== 0) response.writeHead(status).end();
      });
    });
    beforeAll(async () => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      this.url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/alerts?token=x`);
    });
    afterEach(() => {
      this.received = [];
      this.statuses = [];
    });
    afterAll(() => void server.close());
  }
}
