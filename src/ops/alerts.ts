import { createHmac, randomUUID } from 'node:crypto';
import pRetry, { AbortError } from 'p-retry';
import { codeOf, ReplicaError } from '../errors/errors.ts';
import { HttpAgent } from '../lib/http-agent.ts';
import type { ConnectionId } from '../model.ts';

/** What is told to the outside. Times are ISO 8601. */
export interface Alert {
  readonly type: 'window.warning' | 'window.error' | 'window.recovered' | 'gap.recorded';
  readonly connectionId: ConnectionId;
  readonly payload: Readonly<Record<string, unknown>>;
}

export type SendAlert = (alert: Alert, signal: AbortSignal) => Promise<void>;

/** For one attempt, in milliseconds; and how many there are before the next look tries again. */
const TIMEOUT = 10_000;
const RETRIES = 4;

/**
 * Sends alerts as the upstream sends its webhooks: JSON with id, type, connection, payload and time, and, where there is
 * a secret, a header `t=<unix time>,v1=<hex HMAC-SHA256 over t.body>`. Tried again where the receiver is out of reach
 * or fails; the id stays the same then. Redirects are not followed.
 * @param pause the first pause between attempts, in milliseconds.
 * @param timeout for one attempt, in milliseconds.
 */
export function alertSender({
  url,
  secret,
  pause = 1_000,
  timeout = TIMEOUT,
}: {
  readonly url: URL;
  readonly secret: string | undefined;
  readonly pause?: number;
  readonly timeout?: number;
}): SendAlert {
  const agent = new HttpAgent();
  return async ({ type, connectionId, payload }, signal) => {
    const id = randomUUID();
    const occurred = new Date();
    const body = JSON.stringify({
      ...{ id, type: `wa_replica.${type}`, connection_id: connectionId },
      ...{ payload, occurred_at: occurred.toISOString() },
    });
    const attempt = async () => {
      const seconds = Math.floor(Date.now() / 1000);
      const headers = {
        'content-type': 'application/json',
        'x-wa-replica-event-id': id,
        'x-wa-replica-event-type': `wa_replica.${type}`,
        'x-wa-replica-timestamp': String(seconds),
        ...(secret === undefined ? {} : { 'x-wa-replica-signature': signatureOf(secret, seconds, body) }),
      };
      const within = AbortSignal.any([signal, AbortSignal.timeout(timeout)]);
      const path = `${url.pathname}${url.search}`;
      const ask = { origin: url.origin, path, method: 'POST', headers, body, signal: within } as const;
      const answer = await agent.request(ask);
      await answer.body.dump();
      const { statusCode: status } = answer;
      if (status >= 200 && status < 300) return;
      const refused = new ReplicaError('network', {
        where: 'sending an alert',
        code: `HTTP ${status}`,
        hint: HINT,
      });
      // It will not take it the next time either.
      throw status >= 400 && status < 500 && status !== 408 && status !== 429
        ? new AbortError(refused)
        : refused;
    };
    try {
      await pRetry(attempt, {
        signal,
        retries: RETRIES,
        minTimeout: pause,
        maxTimeout: pause * 10,
        factor: 3,
        randomize: true,
      });
    } catch (error) {
      throw new ReplicaError('network', { where: 'sending an alert', code: codeOf(error), hint: HINT });
    }
  };
}

const HINT = 'check ALERT_WEBHOOK_URL, and what answers there';

/** The signature's header for a body that is sent at `seconds` since 1970. */
function signatureOf(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`;
}
