/** How an answer reaches the wire, whole or with a fault. */
import type { ServerResponse } from 'node:http';
import type { Drawn, Faults, KindFault } from './faults.ts';

export interface Answer {
  readonly status: number;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export function json(status: number, body: string | Buffer): Answer {
  return { status, body };
}

export function failure(status: number, error: string): Answer {
  return { status, body: JSON.stringify({ error }) };
}

const HTML =
  '<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>';

const REFUSALS: Partial<Record<KindFault['kind'], readonly [status: number, error: string]>> = {
  rate_limited: [429, 'too many requests'],
  internal: [500, 'internal error'],
  bad_gateway: [502, 'upstream WhatsApp connection error'],
  unavailable: [503, 'connection not ready'],
};

/** Timers that must end with the server. */
export class Timers {
  readonly #running = new Set<NodeJS.Timeout>();

  after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#running.delete(timer);
      act();
    }, ms);
    this.#running.add(timer);
  }

  clear(): void {
    for (const timer of this.#running) clearTimeout(timer);
    this.#running.clear();
  }
}

/**
 * An answer that a fault puts in the place of the real one, or null where the real one is to be made.
 * @param now the world's time, milliseconds since the epoch.
 */
export function faultAnswer(drawn: Drawn, faults: Faults, now: number): Answer | null {
  const { fault } = drawn;
  if (fault.kind === 'answer') {
    return { status: fault.status, body: fault.body ?? '', ...(fault.headers && { headers: fault.headers }) };
  }
  if (fault.kind === 'html') return { status: 200, body: HTML, headers: { 'content-type': 'text/html' } };
  const refusal = REFUSALS[fault.kind];
  if (!refusal) return null;
  const [status, error] = refusal;
  const answer = failure(status, error);
  const wait =
    fault.retryAfter === undefined ? (status === 429 ? faults.retryAfter : null) : fault.retryAfter;
  if (wait === null) return answer;
  const asDate = fault.asDate ?? drawn.point < 0.3;
  return { ...answer, headers: { 'retry-after': asDate ? httpDate(now + wait * 1000 + 999) : String(wait) } };
}

/** Sends the answer; the fault, if any, is one that strikes on the way. */
export function deliver(
  res: ServerResponse,
  answer: Answer,
  drawn: Drawn | null,
  faults: Faults,
  timers: Timers,
  now: number,
): void {
  const { fault, point } = drawn ?? { fault: null, point: 0 };
  let body = typeof answer.body === 'string' ? Buffer.from(answer.body) : answer.body;
  if (fault?.kind === 'truncate') body = body.subarray(0, 1 + Math.floor(point * (body.length - 1)));
  const own = lowerCased(answer.headers);
  const headers = {
    'content-type': 'application/json',
    date: httpDate(now),
    // An answer in chunks does not say how long it is.
    ...(own['transfer-encoding'] === undefined && { 'content-length': body.length }),
    ...own,
  };
  const send = () => {
    // The client may have gone during the wait.
    if (res.destroyed) return;
    res.writeHead(answer.status, headers);
    if (fault?.kind === 'cut') {
      // At least a byte, or the headers might not leave before the end.
      res.write(body.subarray(0, Math.max(1, Math.floor(point * body.length))), () => res.socket?.destroy());
    } else if (fault?.kind === 'trickle') trickle(res, body, fault, faults, timers);
    else res.end(body);
  };
  const delay = fault?.kind === 'slow' ? (fault.delayMs ?? Math.ceil(point * faults.slowMs)) : 0;
  if (delay + faults.latencyMs > 0) timers.after(delay + faults.latencyMs, send);
  else send();
}

function trickle(res: ServerResponse, body: Buffer, fault: KindFault, faults: Faults, timers: Timers): void {
  const piece = Math.max(1, fault.bytes ?? Math.ceil(body.length / 20));
  const delay = fault.delayMs ?? faults.trickleMs / 20;
  let at = 0;
  const next = () => {
    if (res.destroyed) return;
    res.write(body.subarray(at, at + piece));
    at += piece;
    if (at >= body.length) res.end();
    else timers.after(delay, next);
  };
  next();
}

/** A header named twice in two spellings would be sent twice. */
function lowerCased(headers: Answer['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]),
  );
}

/** The form of a Date or Retry-After header: whole seconds, cut. */
function httpDate(ms: number): string {
  return new Date(ms).toUTCString();
}
