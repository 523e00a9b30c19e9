import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { codeOf, kindOfStatus, ReplicaError } from '../errors.ts';
import { HttpAgent } from '../lib/http-agent.ts';
import { type ConnectionId, type Cursor, UNNAMED_CONNECTION } from '../model.ts';
import { small, type Take, whole } from './body.ts';
import { parseRetryAfter } from './retry-after.ts';

/** An API key that can be read again from its file when the upstream refuses it. */
export interface ApiKey {
  readonly value: string;
  /** Reads the key again. */
  reload(): Promise<void>;
}

export interface ClientOptions {
  readonly baseUrl: URL;
  /** For the whole request, body included, in milliseconds. */
  readonly requestTimeout: number;
  /** Sockets kept open to the upstream. */
  readonly maxSockets: number;
  readonly userAgent: string;
}

/** A request: what is its own about it. */
interface Ask {
  readonly key: ApiKey;
  readonly connectionId?: ConnectionId | undefined;
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  /** The path in errors, where an id is in it. */
  readonly shownPath?: string;
  readonly body?: string;
  readonly accept?: string;
}

interface Answer<T> {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  /** Undefined with any other status, and where it is compressed. */
  readonly body: T | undefined;
}

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
  readonly #options: ClientOptions;
  readonly #agent: HttpAgent;

  constructor(options: ClientOptions) {
    this.#options = options;
    // Time-outs are ours alone (one for the whole request), so that a server which sends a byte now and then
    // is cut off too.
    this.#agent = new HttpAgent({
      connections: options.maxSockets,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: 60_000,
    });
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

  /** `GET /v1/me`: its shape is not documented, so it is returned as it came. */
  async me(key: ApiKey, signal: AbortSignal): Promise<unknown> {
    return json(await this.#get(key, undefined, '/v1/me', signal), 'GET /v1/me');
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
    const answer = await this.#attempt({ key, connectionId, path }, signal, small);
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
    const { body: answer } = await this.#ask(ask, signal, small);
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
    return (await this.#ask({ key, connectionId, path, shownPath }, signal, whole(admits))).body!;
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
    const { headers, body } = await this.#ask(ask, signal, async (stream) => stream);
    const { 'content-type': type, 'content-length': length } = headers;
    return {
      contentType: typeof type === 'string' ? type : undefined,
      contentLength: typeof length === 'string' && /^\d{1,15}$/.test(length) ? Number(length) : undefined,
      body: body!,
    };
  }

  /** Drops what is open and keeps nothing; requests under way end as `network`. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #get(
    key: ApiKey,
    connectionId: ConnectionId | undefined,
    path: string,
    signal: AbortSignal,
  ): Promise<Buffer> {
    return (await this.#ask({ key, connectionId, path }, signal, small)).body!;
  }

  /** @throws ReplicaError for any status but 200, and 201 and 204 for what is no GET; and for a compressed answer. */
  async #ask<T>(ask: Ask, signal: AbortSignal, take: Take<T>): Promise<Answer<T>> {
    const { key } = ask;
    const sent = key.value;
    let answer = await this.#attempt(ask, signal, take);
    // The key may have been rotated in its file: R13 parks a refused key, so look once before. Another request may have
    // looked meanwhile.
    if (answer.status === 401 || answer.status === 403) {
      await key.reload();
      if (key.value !== sent) answer = await this.#attempt(ask, signal, take);
    }
    if (answer.status === 200 || (ask.method !== undefined && [201, 204].includes(answer.status))) {
      if (isCompressed(answer)) {
        const hint = 'something on the way compresses what is not asked for: see what stands between';
        throw new ReplicaError('protocol', { where: whereOf(ask), code: 'compressed', hint });
      }
      return answer;
    }
    throw new ReplicaError(kindOfStatus(answer.status), {
      where: whereOf(ask),
      code: `HTTP ${answer.status}`,
      status: answer.status,
      // The upstream's date is by its own clock.
      retryAfter: parseRetryAfter(answer.headers['retry-after'], dateOf(answer) ?? Date.now()),
    });
  }

  async #attempt<T>(ask: Ask, signal: AbortSignal, take: Take<T>): Promise<Answer<T>> {
    const where = whereOf(ask);
    const { key, connectionId, method = 'GET', path, body: sent, accept = 'application/json' } = ask;
    const { baseUrl, requestTimeout, userAgent } = this.#options;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), requestTimeout);
    try {
      const { statusCode, headers, body } = await this.#agent.request({
        origin: baseUrl.origin,
        path: baseUrl.pathname.replace(/\/$/, '') + path,
        method,
        body: sent ?? null,
        headers: {
          authorization: `Bearer ${key.value}`,
          accept,
          // Without it any coding may come (RFC 9110, 12.5.3), and an attachment be kept in it.
          'accept-encoding': 'identity',
          'user-agent': userAgent,
          ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
          ...(connectionId === undefined || connectionId === UNNAMED_CONNECTION
            ? {}
            : { 'x-whatsapp-use-connection-id': connectionId }),
        },
        signal: AbortSignal.any([signal, late.signal]),
      });
      if ((statusCode !== 200 && statusCode !== 201) || isCompressed({ headers })) {
        // The head says it all; the text is not for logs, and a body that does not end is not waited for.
        await body.dump({ limit: 65_536, signal: AbortSignal.timeout(1_000) }).catch(() => {});
        return { status: statusCode, headers, body: undefined };
      }
      return { status: statusCode, headers, body: await take(body, where) };
    } catch (error) {
      if (error instanceof ReplicaError) throw error;
      if (signal.aborted) throw signal.reason;
      if (late.signal.aborted) throw new ReplicaError('timeout', { where, code: 'REQUEST_TIMEOUT' });
      const code = codeOf(error);
      throw new ReplicaError(/TIMEOUT|ETIMEDOUT/.test(code) ? 'timeout' : 'network', { where, code });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A request's place in errors: no query, which may hold more than a place. */
function whereOf({ method = 'GET', path, shownPath = path }: Ask): string {
  return `${method} ${shownPath.split('?')[0]}`;
}

/** When the upstream says that it answered, in milliseconds since 1970; undefined where it does not. */
function dateOf({ headers }: Answer<unknown>): number | undefined {
  const date = Date.parse(String(headers.date ?? ''));
  return Number.isNaN(date) ? undefined : date;
}

function isCompressed({ headers }: Pick<Answer<unknown>, 'headers'>): boolean {
  const coding = String(headers['content-encoding'] ?? '');
  return coding !== '' && coding.toLowerCase() !== 'identity';
}

function json(body: Buffer, where: string): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new ReplicaError('protocol', { where, code: 'not JSON' });
  }
}
