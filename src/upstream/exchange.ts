import type { Dispatcher } from 'undici';
import { COMPRESSED } from '../errors/codes.ts';
import { codeOf, kindOfStatus, ReplicaError } from '../errors/errors.ts';
import { HttpAgent } from '../lib/http-agent.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import type { ApiKey } from './api-key.ts';
import type { Take } from './body.ts';
import { parseRetryAfter } from './retry-after.ts';

export interface ExchangeOptions {
  readonly baseUrl: URL;
  /** For the whole request, body included, in milliseconds. */
  readonly requestTimeout: number;
  /** Sockets kept open to the upstream. */
  readonly maxSockets: number;
  readonly userAgent: string;
}

/** What to do where it is not the API that answers. */
export const OTHER_API = 'check WHATSAPP_USE_BASE_URL, and what stands between';

/** A request: what is its own about it. */
export interface Ask {
  readonly key: ApiKey;
  readonly connectionId?: ConnectionId | undefined;
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  /** The path in errors, where an id is in it. */
  readonly shownPath?: string;
  readonly body?: string;
  readonly accept?: string;
}

export interface Answer<T> {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  /** Undefined with any other status, and where it is compressed. */
  readonly body: T | undefined;
}

/**
 * One request and its answer. Redirects are never followed, so that a key goes nowhere else. HTTPS_PROXY, NO_PROXY and
 * NODE_EXTRA_CA_CERTS are honoured.
 */
export class Exchange {
  readonly #options: ExchangeOptions;
  readonly #agent: HttpAgent;

  constructor(options: ExchangeOptions) {
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
   * An answer that says what was asked for. A key that is refused is read again first, and the request made once more.
   * @throws ReplicaError with the kind that R13 gives: for any status but 200, and 201 and 204 for what is no GET; for a
   * compressed answer. The signal's reason where it was aborted.
   */
  async ask<T>(ask: Ask, signal: AbortSignal, take: Take<T>): Promise<Answer<T>> {
    const { key } = ask;
    const sent = key.value;
    let answer = await this.attempt(ask, signal, take);
    // The key may have been rotated in its file: R13 parks a refused key, so look once before. Another request may have
    // looked meanwhile.
    if (answer.status === 401 || answer.status === 403) {
      await key.reload();
      if (key.value !== sent) answer = await this.attempt(ask, signal, take);
    }
    if (answer.status === 200 || (ask.method !== undefined && [201, 204].includes(answer.status))) {
      if (isCompressed(answer)) {
        throw new ReplicaError('protocol', { where: whereOf(ask), code: COMPRESSED });
      }
      return answer;
    }
    throw new ReplicaError(kindOfStatus(answer.status), {
      where: whereOf(ask),
      code: `HTTP ${answer.status}`,
      status: answer.status,
      // What is of no connection every key has.
      ...(answer.status === 404 && ask.connectionId === undefined ? { hint: OTHER_API } : {}),
      // The upstream's date is by its own clock.
      retryAfter: parseRetryAfter(answer.headers['retry-after'], dateOf(answer) ?? Date.now()),
    });
  }

  /**
   * The answer to one attempt, whatever its status.
   * @throws ReplicaError `network` or `timeout` where there is none; what `take` throws; the signal's reason.
   */
  async attempt<T>(ask: Ask, signal: AbortSignal, take: Take<T>): Promise<Answer<T>> {
    const where = whereOf(ask);
    const { key, connectionId, method = 'GET', path, body: sent, accept = 'application/json' } = ask;
    const { baseUrl, requestTimeout, userAgent } = this.#options;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), requestTimeout);
    try {
      const { statusCode, headers, body } = await this.#agent.request({
        origin: baseUrl.origin,
        path: baseUrl.pathname.replace(/\/+$/, '') + path,
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
      // 201 is none to a mere GET, and its body would keep a socket.
      const wanted = statusCode === 200 || (statusCode === 201 && ask.method !== undefined);
      if (!wanted || isCompressed({ headers })) {
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

  /** Drops what is open and keeps nothing; requests under way end as `network`. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

/** A request's place in errors: no query, which may hold more than a place. */
export function whereOf({ method = 'GET', path, shownPath = path }: Ask): string {
  return `${method} ${shownPath.split('?')[0]}`;
}

/** When the upstream says that it answered, in milliseconds since 1970; undefined where it does not. */
export function dateOf({ headers }: Answer<unknown>): number | undefined {
  const date = Date.parse(String(headers.date ?? ''));
  return Number.isNaN(date) ? undefined : date;
}

function isCompressed({ headers }: Pick<Answer<unknown>, 'headers'>): boolean {
  const coding = String(headers['content-encoding'] ?? '');
  return coding !== '' && coding.toLowerCase() !== 'identity';
}
