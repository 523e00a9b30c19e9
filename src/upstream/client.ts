import type { Readable } from 'node:stream';
import { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId, Cursor } from '../model.ts';
import type { ApiKey } from './api-key.ts';
import { small, whole } from './body.ts';
import { type Ask, dateOf, Exchange, type ExchangeOptions, whereOf } from './exchange.ts';

/** A body that is read as it comes. Whoever has it reads it to its end, or destroys it. */
export interface Streamed {
  readonly contentType: string | undefined;
  /** Bytes, as far as they were told before. */
  readonly contentLength: number | undefined;
  readonly body: Readable;
}

/** `GET /v1/whatsapp/status`, as far as the replica uses it. */
export interface PairingStatus {
  readonly paired: boolean | null;
  readonly connected: boolean | null;
  readonly jid: string | null;
}

/**
 * The upstream's HTTP API. One call, one request: no retry here, the loop above owns backoff. Redirects are never
 * followed, so that a key goes nowhere else. HTTPS_PROXY, NO_PROXY and NODE_EXTRA_CA_CERTS are honoured.
 */
export class UpstreamClient {
  readonly #exchange: Exchange;

  constructor(options: ExchangeOptions) {
    this.#exchange = new Exchange(options);
  }

  /**
   * The bytes of one answer of `GET /v1/whatsapp/sync`, for {@link readPage}.
   * @param admits asked with the bytes read so far whenever more come; false ends the request as `oversize`.
   * @throws ReplicaError with the kind that R13 gives; the signal's reason where it was aborted.
   */
  async fetchPage(
    key: ApiKey,
    connectionId: ConnectionId,
    cursor: Cursor,
    limit: number,
    admits: (bytes: number) => boolean,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const path = `/v1/whatsapp/sync?cursor=${cursor}&limit=${limit}`;
    return await this.fetchBody(key, connectionId, path, path, admits, signal);
  }

  /** `GET /v1/me`: an object of which no more is documented, so it is returned as it came.
   * @throws ReplicaError with the kind that R13 gives: `protocol` for any other JSON, too. */
  async me(key: ApiKey, signal: AbortSignal): Promise<object> {
    const me = json(await this.#get(key, undefined, '/v1/me', signal), 'GET /v1/me');
    if (typeof me !== 'object' || me === null || Array.isArray(me))
      throw new ReplicaError('protocol', { where: 'GET /v1/me', code: 'no object' });
    return me;
  }

  async pairingStatus(key: ApiKey, connectionId: ConnectionId, signal: AbortSignal): Promise<PairingStatus> {
    const body = await this.#get(key, connectionId, '/v1/whatsapp/status', signal);
    const status = (json(body, 'GET /v1/whatsapp/status') ?? {}) as Record<string, unknown>;
    const flag = (value: unknown) => (typeof value === 'boolean' ? value : null);
    const jid = typeof status.jid === 'string' && status.jid !== '' ? status.jid : null;
    return { paired: flag(status.paired), connected: flag(status.connected), jid };
  }

  /**
   * A look at how the upstream takes a request, for `doctor`: whatever status it answers.
   * @throws ReplicaError `network` or `timeout` where there is no answer.
   */
  async probe(
    key: ApiKey,
    connectionId: ConnectionId | undefined,
    path: string,
    signal: AbortSignal,
  ): Promise<{ status: number; date: Date | undefined; body: unknown }> {
    const answer = await this.#exchange.attempt({ key, connectionId, path }, signal, small);
    const date = dateOf(answer);
    let body: unknown;
    try {
      body = JSON.parse(String(answer.body));
    } catch {
      body = undefined;
    }
    return { status: answer.status, date: date === undefined ? undefined : new Date(date), body };
  }

  /**
   * A request of the rest of the API; JSON both ways. Undefined where the answer has no body.
   * @param body sent as JSON, where there is one.
   * @throws ReplicaError with the kind that R13 gives.
   */
  async call(
    key: ApiKey,
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<unknown> {
    const ask = { key, method, path, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const { body: answer } = await this.#exchange.ask(ask, signal, small);
    return answer === undefined || answer.length === 0 ? undefined : json(answer, whereOf(ask));
  }

  /**
   * The body of a GET of one connection, whatever its shape.
   * @param shownPath the path in errors: without ids.
   * @param admits as for {@link fetchPage}.
   * @throws ReplicaError with the kind that R13 gives; the signal's reason where it was aborted.
   */
  async fetchBody(
    key: ApiKey,
    connectionId: ConnectionId,
    path: string,
    shownPath: string,
    admits: (bytes: number) => boolean,
    signal: AbortSignal,
  ): Promise<Buffer> {
    return (await this.#exchange.ask({ key, connectionId, path, shownPath }, signal, whole(admits))).body!;
  }

  /**
   * A message's attachment. REQUEST_TIMEOUT is for its beginning alone: how long the body may take is the caller's.
   * @throws ReplicaError with the kind that R13 gives; `not_found` where there is none, or none any more.
   */
  async openMedia(
    key: ApiKey,
    connectionId: ConnectionId,
    messageId: string,
    signal: AbortSignal,
  ): Promise<Streamed> {
    const shownPath = '/v1/whatsapp/media';
    const path = `${shownPath}/${encodeURIComponent(messageId)}`;
    const ask: Ask = { key, connectionId, path, shownPath, accept: '*/*' };
    const { headers, body } = await this.#exchange.ask(ask, signal, async (stream) => stream);
    const { 'content-type': type, 'content-length': length } = headers;
    return {
      contentType: typeof type === 'string' ? type : undefined,
      contentLength: typeof length === 'string' && /^\d{1,15}$/.test(length) ? Number(length) : undefined,
      body: body!,
    };
  }

  /** Drops what is open and keeps nothing; requests under way end as `network`. */
  async close(): Promise<void> {
    await this.#exchange.close();
  }

  async #get(
    key: ApiKey,
    connectionId: ConnectionId | undefined,
    path: string,
    signal: AbortSignal,
  ): Promise<Buffer> {
    return (await this.#exchange.ask({ key, connectionId, path }, signal, small)).body!;
  }
}

function json(body: Buffer, where: string): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new ReplicaError('protocol', { where, code: 'not JSON' });
  }
}
