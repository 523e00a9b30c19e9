import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { recognize } from '../../errors/errors.ts';
import { isDoubling } from '../../lib/doubling.ts';
import { type ConnectionId, isConnectionId } from '../../model.ts';
import type { Logger } from '../logger.ts';
import { type Reply, type Route, readBody } from './server.ts';

/** The largest event, in bytes, and how far its time may be from ours, in seconds. */
const MAX_BODY = 1024 ** 2;
const MAX_SKEW = 300;

/** What becomes of a request to the webhook's route. `failed`: nobody could be told, and the sender shall try again. */
export const WEBHOOK_OUTCOMES = ['accepted', 'refused', 'too_large', 'failed'] as const;
export type WebhookOutcome = (typeof WEBHOOK_OUTCOMES)[number];

export interface WebhookOptions {
  /** Several while one is rotated. */
  readonly secrets: readonly string[];
  /** Makes a connection due; settles when that is sure. Undefined: the event names none. */
  readonly onEvent: (connectionId: ConnectionId | undefined) => Promise<void>;
  readonly count: (outcome: WebhookOutcome) => void;
  readonly log: Logger;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * `POST /webhooks/whatsapp-use`: an event writes no data, it makes its connection due. The upstream documents the
 * form of the signature header, not how it is made; the usual way is assumed: hex HMAC-SHA256 over `<t>.<raw body>`.
 * Whatever is not signed so is 401.
 */
export function webhookRoute({ secrets, onEvent, count, log, now = Date.now }: WebhookOptions): Route {
  let refused = 0;
  const refuse = (status: 401 | 413): Reply => {
    count(status === 413 ? 'too_large' : 'refused');
    refused++;
    // Anyone can send such requests: told at each doubling only.
    if (isDoubling(refused)) log.warn({ refused, status }, 'webhook refused');
    return { status, body: status === 413 ? 'too large\n' : 'unauthorized\n' };
  };
  return {
    method: 'POST',
    path: '/webhooks/whatsapp-use',
    async answer(request) {
      const body = await readBody(request, MAX_BODY);
      if (body === undefined) return refuse(413);
      if (!isSigned(signatureOf(request), body, secrets, now())) return refuse(401);
      try {
        await onEvent(connectionOf(body));
      } catch (error) {
        count('failed');
        // A fault of this program is told of as one.
        if (recognize(error) === undefined) throw error;
        // The sender tries again; the poll does not need it to.
        return { status: 503, body: 'try again\n' };
      }
      count('accepted');
      return { status: 200, body: 'ok\n' };
    },
  };
}

function signatureOf(request: IncomingMessage): string {
  const header = request.headers['x-whatsapp-use-signature'];
  return Array.isArray(header) ? header.join(',') : (header ?? '');
}

/** Whether a `t=…,v1=…` header signs the body with one of the secrets, about now. In constant time per secret. */
export function isSigned(header: string, body: Buffer, secrets: readonly string[], now: number): boolean {
  const parts = header.split(',').map((part) => part.trim());
  const time = parts.find((part) => part.startsWith('t='))?.slice(2) ?? '';
  // Whole and nothing else: Buffer.from would read as far as it understands.
  const given = parts
    .filter((part) => /^v1=[0-9a-f]{64}$/i.test(part))
    .map((part) => Buffer.from(part.slice(3), 'hex'));
  if (!/^\d{1,12}$/.test(time) || Math.abs(now / 1000 - Number(time)) > MAX_SKEW) return false;
  let signed = false;
  for (const secret of secrets) {
    const wanted = createHmac('sha256', secret).update(`${time}.`).update(body).digest();
    for (const one of given) {
      if (timingSafeEqual(one, wanted)) signed = true;
    }
  }
  return signed;
}

function connectionOf(body: Buffer): ConnectionId | undefined {
  try {
    const event = JSON.parse(body.toString('utf8')) as { connection_id?: unknown } | null;
    const id = event?.connection_id;
    return typeof id === 'string' && isConnectionId(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
