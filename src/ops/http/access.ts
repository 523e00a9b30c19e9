import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Reply, Route } from './server.ts';

/**
 * Lets in whoever has the token: as bearer, or as the password of basic auth, which a browser asks for. Without a
 * token only this machine itself is let in, and only under a name of its own: a page elsewhere could make a browser
 * here ask under another name. What a proxy here passes on comes from elsewhere.
 */
export function guarded(route: Route, token: string | undefined): Route {
  return {
    ...route,
    answer: (request) => refusal(request, token) ?? route.answer(request),
  };
}

/** Whether a request may see details. */
export function isTrusted(request: IncomingMessage, token: string | undefined): boolean {
  return refusal(request, token) === undefined;
}

function refusal(request: IncomingMessage, token: string | undefined): Reply | undefined {
  if (token === undefined) {
    return isLocal(request)
      ? undefined
      : { status: 403, body: 'set HTTP_AUTH_TOKEN to open this to other machines\n' };
  }
  const given = tokenOf(request.headers.authorization ?? '');
  if (given !== undefined && isEqual(given, token)) return undefined;
  const headers = { 'www-authenticate': 'Basic realm="wa-replica", charset="UTF-8"' };
  return { status: 401, body: 'the token is wanted, as bearer or as the password\n', headers };
}

/** What proxies say of whom they ask for. */
const PASSED_ON = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'] as const;

function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  const local = /^(?:::1|(?:::ffff:)?127(?:\.\d{1,3}){3})$/.test(address);
  const passedOn = PASSED_ON.some((header) => request.headers[header] !== undefined);
  return local && !passedOn && /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(host);
}

function tokenOf(header: string): string | undefined {
  const [, scheme = '', value = ''] = /^(\S+) +(.*)$/.exec(header) ?? [];
  // Node has each byte of a header as a character.
  if (/^bearer$/i.test(scheme)) return Buffer.from(value, 'latin1').toString('utf8');
  if (!/^basic$/i.test(scheme)) return undefined;
  const pair = Buffer.from(value, 'base64').toString('utf8');
  return pair.slice(pair.indexOf(':') + 1);
}

/** In constant time, whatever the lengths. */
function isEqual(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
