/**
 * Webhook endpoints: create, list, delete, and send a sample. Paths, fields and headers are those of the vendor's
 * documents; how `v1` in the signature is computed they do not say, so hex HMAC-SHA256 over `<t>.<raw body>`, keyed
 * by the secret, is what the form suggests.
 */
import { createHmac } from 'node:crypto';
import type { AccessKey } from './access.ts';
import { type Answer, failure, json } from './delivery.ts';
import { hex8, mix } from './random.ts';

interface Endpoint {
  readonly id: string;
  readonly url: string;
  readonly event_types: readonly string[];
  readonly all_accounts: boolean;
  readonly connection_ids: readonly string[];
  readonly enabled: boolean;
  readonly secret: string;
}

/** The header value for a body sent at `seconds` since the epoch. */
export function signature(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`;
}

export class Webhooks {
  readonly endpoints = new Map<string, Endpoint>();
  readonly #seed: number;
  readonly #now: () => number;
  #count = 0;

  /** @param now the world's time, milliseconds since the epoch. */
  constructor(seed: number, now: () => number) {
    this.#seed = seed;
    this.#now = now;
  }

  /** @param path what follows `/v1/webhooks/endpoints`. */
  async answer(key: AccessKey | null, method: string, path: string, body: string): Promise<Answer> {
    if (!key?.scopes.includes('webhooks:manage')) return failure(401, 'invalid API key or missing scope');
    if (path === '' && method === 'GET') {
      return json(200, JSON.stringify({ items: [...this.endpoints.values()].map(withoutSecret) }));
    }
    if (path === '' && method === 'POST') return this.#create(body);
    const [, id = '', action] = path.split('/');
    const endpoint = this.endpoints.get(id);
    if (!endpoint) return failure(404, 'webhook endpoint not found');
    if (method === 'DELETE' && action === undefined) {
      this.endpoints.delete(id);
      return json(200, JSON.stringify({ endpoint: withoutSecret(endpoint) }));
    }
    if (method !== 'POST' || action !== 'test') return failure(404, 'not found');
    const connection = endpoint.connection_ids[0] ?? key.reach()[0]?.id ?? '';
    const status = await this.#send(endpoint, 'whatsapp.message.received', connection, { sample: true });
    return json(200, JSON.stringify({ delivery: { endpoint_id: id, status_code: status } }));
  }

  /** Sends an event to every endpoint that wants it. @returns each one's status, 0 = not reached. */
  async emit(type: string, connection: string, payload: unknown): Promise<number[]> {
    const wanting = [...this.endpoints.values()].filter(
      (one) =>
        one.enabled &&
        (one.event_types.includes('*') || one.event_types.includes(type)) &&
        (one.all_accounts || one.connection_ids.includes(connection)),
    );
    return Promise.all(wanting.map((endpoint) => this.#send(endpoint, type, connection, payload)));
  }

  #create(body: string): Answer {
    let given: Partial<Endpoint>;
    try {
      given = JSON.parse(body);
    } catch {
      return failure(400, 'body must be JSON');
    }
    if (typeof given?.url !== 'string' || !URL.canParse(given.url)) return failure(400, 'url is required');
    const ids = given.connection_ids ?? [];
    if (given.all_accounts !== true && ids.length === 0) {
      return failure(400, 'all_accounts or connection_ids is required');
    }
    const number = ++this.#count;
    const endpoint: Endpoint = {
      id: `whe_${hex8(mix(this.#seed, number))}`,
      url: given.url,
      event_types: given.event_types ?? ['*'],
      all_accounts: given.all_accounts === true,
      connection_ids: ids,
      enabled: given.enabled !== false,
      secret: `whsec_${hex8(mix(this.#seed, 1000 + number))}${hex8(mix(this.#seed, 2000 + number))}`,
    };
    this.endpoints.set(endpoint.id, endpoint);
    return json(201, JSON.stringify({ endpoint }));
  }

  async #send(endpoint: Endpoint, type: string, connection: string, payload: unknown): Promise<number> {
    const seconds = Math.floor(this.#now() / 1000);
    const id = `evt_${hex8(mix(this.#seed, 3000 + ++this.#count))}`;
    const occurred = new Date(this.#now()).toISOString();
    const body = JSON.stringify({ id, type, connection_id: connection, payload, occurred_at: occurred });
    const headers = {
      'content-type': 'application/json',
      'x-whatsapp-use-event-id': id,
      'x-whatsapp-use-event-type': type,
      'x-whatsapp-use-timestamp': String(seconds),
      'x-whatsapp-use-signature': signature(endpoint.secret, seconds, body),
    };
    try {
      const answer = await fetch(endpoint.url, {
        method: 'POST',
        headers,
        body,
        signal: AbortSignal.timeout(5000),
      });
      await answer.body?.cancel();
      return answer.status;
    } catch {
      return 0;
    }
  }
}

function withoutSecret({ secret: _, ...rest }: Endpoint): Omit<Endpoint, 'secret'> {
  return rest;
}
