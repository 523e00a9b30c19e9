import { ReplicaError } from '../errors/errors.ts';
import { sliceArray } from '../lib/json-slice.ts';
import { lazily } from '../lib/lazily.ts';
import type { ConnectionId } from '../model.ts';
import type { ApiKey } from './api-key.ts';
import type { UpstreamClient } from './client.ts';
import { arrayOf, PageError, readAnswer } from './page.ts';

/** An answer of one of the upstream's lists, read whole, its text mended (R10); the records in it are not checked yet. */
export interface List {
  readonly records: readonly unknown[];
  /** Whether older ones are behind these; of the lists that are not paged, never. */
  readonly hasMore: boolean;
  readonly bytes: number;
  /** The bytes of a record as they came. */
  readonly recordBytes: (index: number) => Buffer;
}

/** What a request of a list is made with; see `UpstreamClient.fetchPage`. */
export interface ListRequest {
  readonly key: ApiKey;
  readonly connectionId: ConnectionId;
  readonly admits: (bytes: number) => boolean;
  readonly signal: AbortSignal;
}

/**
 * The upstream's own lists: what it serves now, beside the stream of changes. Contacts and conversations come whole, no
 * paging is documented for them; messages come newest first. All methods make one attempt, and throw ReplicaError
 * with the kind that R13 gives, or the signal's reason.
 */
export class Lists {
  readonly #upstream: UpstreamClient;

  constructor(upstream: UpstreamClient) {
    this.#upstream = upstream;
  }

  async contacts(request: ListRequest): Promise<List> {
    const path = '/v1/whatsapp/contacts';
    return await this.#list(request, path, path, 'items');
  }

  async conversations(request: ListRequest): Promise<List> {
    const path = '/v1/whatsapp/conversations';
    return await this.#list(request, path, path, 'items');
  }

  /** A page of a conversation's messages. @param before the id of the oldest one that is known; absent: from the newest. */
  async messages(
    request: ListRequest,
    conversationId: string,
    before: string | undefined,
    limit: number,
  ): Promise<List> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set('before_message_id', before);
    const path = `/v1/whatsapp/conversations/${encodeURIComponent(conversationId)}/messages?${query}`;
    return await this.#list(request, path, '/v1/whatsapp/conversations/…/messages', 'messages');
  }

  async #list(
    { key, connectionId, admits, signal }: ListRequest,
    path: string,
    shownPath: string,
    array: 'items' | 'messages',
  ): Promise<List> {
    const body = await this.#upstream.fetchBody(key, connectionId, path, shownPath, admits, signal);
    try {
      return parseList(body, array);
    } catch (error) {
      if (error instanceof PageError)
        throw new ReplicaError('protocol', { where: `${shownPath}: ${error.message}` });
      throw error;
    }
  }
}

/**
 * Reads an answer of a list.
 * @throws PageError where it is no complete JSON object, or lacks the array: an empty list is an empty array, and an
 * answer without one says nothing.
 */
export function parseList(body: Buffer, array: 'items' | 'messages'): List {
  const fields = readAnswer(body);
  if (fields[array] === undefined) throw new PageError(`the answer has no "${array}"`);
  const records = arrayOf(fields, array);
  // Where it is not told, the next page tells it by being empty.
  const hasMore = array === 'messages' ? (fields.has_more ?? records.length > 0) : false;
  if (typeof hasMore !== 'boolean') throw new PageError('"has_more" is not a boolean');
  const slices = lazily(() => sliceArray(body, array));
  return { records, hasMore, bytes: body.length, recordBytes: (index) => slices()[index]! };
}
