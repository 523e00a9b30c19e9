import { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { ApiKey } from './api-key.ts';
import type { UpstreamClient } from './client.ts';
import { OTHER_API } from './exchange.ts';

/** A webhook endpoint at the upstream, as far as it is used here. */
export interface WebhookEndpoint {
  readonly id: string;
  readonly url: string;
  readonly enabled: boolean;
  readonly eventTypes: readonly string[];
  /** Undefined: all that the organization has, later ones too. */
  readonly connectionIds: readonly ConnectionId[] | undefined;
  /** In the answer that creates the endpoint, and in no other. */
  readonly secret: string | undefined;
}

/** What changes something that is replicated: messages, and whether there is anything to replicate from. */
const EVENT_TYPES = [
  'whatsapp.message.received',
  'whatsapp.message.sent',
  'whatsapp.message.reaction_received',
  'whatsapp.message.edited',
  'whatsapp.message.deleted',
  'whatsapp.message.receipt_updated',
  'whatsapp.connection.status_changed',
] as const;

const PATH = '/v1/webhooks/endpoints';

/**
 * The webhook endpoints that one key manages; it needs the scope `webhooks:manage`.
 * All methods throw ReplicaError, with a hint of its own where the key may not.
 */
export class WebhookEndpoints {
  readonly #upstream: UpstreamClient;
  readonly #key: ApiKey;

  constructor(upstream: UpstreamClient, key: ApiKey) {
    this.#upstream = upstream;
    this.#key = key;
  }

  /** Registers a URL for {@link EVENT_TYPES}.
   * @param connectionIds empty: all connections of the organization, later ones too. */
  async create(
    url: string,
    connectionIds: readonly ConnectionId[],
    signal: AbortSignal,
  ): Promise<WebhookEndpoint> {
    const whose =
      connectionIds.length === 0 ? { all_accounts: true } : { connection_ids: [...connectionIds] };
    const body = { url, event_types: EVENT_TYPES, enabled: true, ...whose };
    return endpointIn(await this.#call('POST', '', signal, body));
  }

  async list(signal: AbortSignal): Promise<WebhookEndpoint[]> {
    const { items } = fieldsOf(await this.#call('GET', '', signal));
    // An empty list is an empty array, or null; an answer without one says nothing.
    if (items !== null && !Array.isArray(items))
      throw withHint(new ReplicaError('protocol', { where: 'the answer is no list of webhook endpoints' }));
    return (items ?? []).map(toEndpoint);
  }

  async delete(id: string, signal: AbortSignal): Promise<void> {
    await this.#call('DELETE', `/${encodeURIComponent(id)}`, signal);
  }

  /**
   * Has the upstream send a sample to the endpoint's URL.
   * @returns the status that the URL answered with; undefined where the answer does not tell (its form is not
   * documented).
   */
  async test(id: string, signal: AbortSignal): Promise<number | undefined> {
    const answer = fieldsOf(await this.#call('POST', `/${encodeURIComponent(id)}/test`, signal));
    const status = fieldsOf(answer.delivery).status_code ?? answer.status_code;
    return typeof status === 'number' ? status : undefined;
  }

  async #call(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<unknown> {
    try {
      return await this.#upstream.call(this.#key, method, PATH + path, signal, body);
    } catch (error) {
      // Of the endpoints as a whole it is not told that one is missing.
      const known = error instanceof ReplicaError && !(error.kind === 'not_found' && path === '');
      throw known ? withHint(error) : error;
    }
  }
}

/** The kinds' own hints speak of replicating. */
function withHint(error: ReplicaError): ReplicaError {
  const { kind, where, code, status, retryAfter } = error;
  const hint = HINTS[kind];
  return hint === undefined ? error : new ReplicaError(kind, { where, code, status, retryAfter, hint });
}

const HINTS: Partial<Record<ReplicaError['kind'], string>> = {
  unauthorized: 'the key was refused: it needs the scope webhooks:manage, which replicating does not',
  not_found: 'this key has no such endpoint; see `wa-replica webhook list`',
  bad_request: 'the upstream refuses this URL or these connections',
  protocol: OTHER_API,
  oversize: OTHER_API,
  not_paired: 'the upstream refuses it as it stands now; see `wa-replica webhook list`',
};

function endpointIn(answer: unknown): WebhookEndpoint {
  const { endpoint } = fieldsOf(answer);
  return toEndpoint(endpoint ?? answer);
}

function toEndpoint(value: unknown): WebhookEndpoint {
  const { id, url, enabled, event_types, all_accounts, connection_ids, secret } = fieldsOf(value);
  if (typeof id !== 'string' || id === '') {
    throw new ReplicaError('protocol', { where: 'the answer names no webhook endpoint' });
  }
  return {
    id,
    url: typeof url === 'string' ? url : '',
    enabled: enabled !== false,
    eventTypes: textsIn(event_types),
    connectionIds: all_accounts === true ? undefined : textsIn(connection_ids),
    secret: typeof secret === 'string' && secret !== '' ? secret : undefined,
  };
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function textsIn(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
