/**
 * The upstream's read routes. Paths, parameters, status codes and the form of errors are those of the vendor's
 * public document; what it leaves open is adjustable (`sync.ts`, `access.ts`, `options.ts`).
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Kind } from '../model.ts';
import type { AccessKey } from './access.ts';
import type { Connection } from './connection.ts';
import { type Answer, failure, json } from './delivery.ts';
import type { KeptAnswers } from './kept-answers.ts';
import { mediaFile } from './media.ts';
import type { SimulatorOptions } from './options.ts';
import type { Message, Person } from './records.ts';
import { MAX_INT64 } from './sync.ts';
import { rfc3339 } from './times.ts';
import { contactText, conversationText, messageText, rawText } from './wire.ts';
import type { World } from './world.ts';

export type RouteName =
  | 'me'
  | 'status'
  | 'sync'
  | 'conversations'
  | 'contacts'
  | 'messages'
  | 'media'
  | 'webhooks'
  | 'unknown';

export type Limits = Pick<SimulatorOptions, 'limitDefault' | 'limitMax' | 'overLimit'>;

/** A request understood as far as its path and headers go. */
export interface Target {
  readonly route: RouteName;
  /** The id within the path, for messages and media; what follows the path for webhooks. */
  readonly id: string;
  readonly query: URLSearchParams;
  readonly key: AccessKey | null;
  readonly connection: Connection | { readonly status: number; readonly error: string } | null;
}

const PATHS: Readonly<Record<string, RouteName>> = {
  '/v1/me': 'me',
  '/v1/whatsapp/status': 'status',
  '/v1/whatsapp/sync': 'sync',
  '/v1/whatsapp/conversations': 'conversations',
  '/v1/whatsapp/contacts': 'contacts',
};

const WEBHOOKS = '/v1/webhooks/endpoints';

export function target(world: World, method: string, url: string, headers: IncomingHttpHeaders): Target {
  const [path = '', search = ''] = url.split('?', 2);
  const webhooks = path === WEBHOOKS || path.startsWith(`${WEBHOOKS}/`);
  const bearer = /^bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
  const key = (bearer !== undefined && world.keys.get(bearer)) || null;
  const header = headers['x-whatsapp-use-connection-id'];
  const [route, id] = webhooks
    ? (['webhooks', path.slice(WEBHOOKS.length)] as const)
    : method === 'GET'
      ? routeOf(path)
      : (['unknown', ''] as const);
  const needsConnection = key && path.startsWith('/v1/whatsapp/') && route !== 'unknown';
  const connection = needsConnection ? key.resolve(typeof header === 'string' ? header : undefined) : null;
  return { route, id, query: new URLSearchParams(search), key, connection };
}

function routeOf(path: string): readonly [RouteName, string] {
  const fixed = PATHS[path];
  if (fixed) return [fixed, ''];
  const inner = /^\/v1\/whatsapp\/(?:conversations\/([^/]+)\/messages|media\/([^/]+))$/.exec(path);
  if (inner?.[1] !== undefined) return ['messages', decoded(inner[1])];
  if (inner?.[2] !== undefined) return ['media', decoded(inner[2])];
  return ['unknown', ''];
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The answer of a read route, faults apart. */
export function answer(request: Target, limits: Limits, kept: KeptAnswers): Answer {
  const { route, key, connection } = request;
  if (!key) return failure(401, 'invalid API key');
  if (route === 'unknown' || route === 'webhooks') return failure(404, 'not found');
  if (route === 'me') return json(200, key.meText());
  if (!key.scopes.includes('whatsapp:read')) return failure(401, 'API key lacks the scope whatsapp:read');
  if (!key.paid) return failure(402, 'subscription required');
  if (!connection) return failure(404, 'connection not found');
  if ('error' in connection) return failure(connection.status, connection.error);
  if (route === 'status') return json(200, statusText(connection));
  if (!connection.state.paired) return failure(409, 'WhatsApp is not paired');
  if (!connection.state.ready) return failure(503, connection.state.error || 'connection not ready');
  switch (route) {
    case 'sync':
      return sync(connection, request.query, limits, kept);
    case 'conversations':
      return json(
        200,
        items([
          ...connection.conversations.map((c) => conversationText(c, connection.log.seqOf(c))),
          ...raws(connection, 'conversation'),
        ]),
      );
    case 'contacts':
      return json(200, items([...connection.people.map(contactText), ...raws(connection, 'contact')]));
    case 'messages':
      return messages(connection, request, limits);
    case 'media':
      return media(connection, request.id);
  }
}

function sync(connection: Connection, query: URLSearchParams, limits: Limits, kept: KeptAnswers): Answer {
  const cursor = query.get('cursor') ?? '0';
  if (!/^\d{1,30}$/.test(cursor) || BigInt(cursor) > MAX_INT64)
    return failure(400, 'cursor must be an int64');
  const limit = limitOf(query, limits);
  if (typeof limit !== 'number') return limit;
  const { status, body } = kept.answer(connection, BigInt(cursor), limit);
  return json(status, body);
}

function limitOf(query: URLSearchParams, limits: Limits): number | Answer {
  const text = query.get('limit');
  if (text === null) return limits.limitDefault;
  const limit = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (limit < 1) return failure(400, 'limit must be an integer of 1 or more');
  if (limit <= limits.limitMax) return limit;
  return limits.overLimit === 'cap'
    ? limits.limitMax
    : failure(400, `limit must be at most ${limits.limitMax}`);
}

/** The raw records of a kind, which the lists serve as the stream does. */
function raws(connection: Connection, kind: Kind): string[] {
  const { log } = connection;
  return connection.raws
    .filter((record) => record.kind === kind)
    .map((record) => String(rawText(record.text, log.seqOf(record))));
}

/** Newest first; those that the window has passed are the oldest, so they are at the end. Raw ones that name the
 * conversation come first of all. */
function messages(connection: Connection, request: Target, limits: Limits): Answer {
  const conversation = connection.conversationById(request.id);
  if (!conversation) {
    const raw = raws(connection, 'conversation').some((text) => text.includes(`"${request.id}"`));
    if (raw) return json(200, '{"messages":[],"contacts":[],"has_more":false}');
    return failure(404, 'conversation not found');
  }
  const limit = limitOf(request.query, limits);
  if (typeof limit !== 'number') return limit;
  const list = conversation.messages;
  let end = list.length;
  const before = request.query.get('before_message_id');
  if (before !== null) {
    const message = connection.messageById(before);
    end = message?.conversation === conversation ? placeOf(list, message) : -1;
    if (end < 0) return failure(404, 'before_message_id not found');
  }
  const page: Message[] = [];
  let i = end - 1;
  for (; i >= 0 && page.length < limit && connection.served(list[i]!); i--) page.push(list[i]!);
  const people = new Set<Person>();
  for (const { sender } of page) if (sender) people.add(sender);
  const texts = page.map((message) => messageText(message, connection.log.seqOf(message), connection));
  if (before === null) {
    const named = `"conversation_id":"${conversation.id}"`;
    texts.unshift(...raws(connection, 'message').filter((text) => text.includes(named)));
  }
  const contacts = [...people].map(contactText);
  const more = i >= 0 && connection.served(list[i]!);
  return json(200, `{"messages":[${texts.join(',')}],"contacts":[${contacts.join(',')}],"has_more":${more}}`);
}

/** Binary search by time, then along those of the same second. */
function placeOf(list: readonly Message[], message: Message): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle]!.sentAt < message.sentAt) low = middle + 1;
    else high = middle;
  }
  return list.indexOf(message, low);
}

function media(connection: Connection, id: string): Answer {
  const message = connection.messageById(id);
  const carries =
    message && message.media > 0 && message.contentType !== 'text' && connection.served(message);
  const file = carries ? mediaFile(message.contentType, message.media) : null;
  // Errors of this route may be plain text.
  if (!file?.available)
    return { status: 404, body: 'media not found', headers: { 'content-type': 'text/plain' } };
  return { status: 200, body: file.bytes, headers: { 'content-type': file.mimeType } };
}

function items(texts: readonly string[]): string {
  return `{"items":[${texts.join(',')}]}`;
}

function statusText(connection: Connection): string {
  const { paired, connected, ready, error } = connection.state;
  return JSON.stringify({
    paired,
    connected: paired && connected,
    ...(paired && { jid: connection.jid }),
    last_connected_at: rfc3339(connection.lastConnectedAt, connection.salt),
    connector_ready: ready,
    connector_error: error,
  });
}
