/**
 * What goes wrong on purpose: by rate, drawn from a seed for each connection on its own, so that one connection's
 * share of faults does not depend on how the requests of several interleave; and by script, for the next requests.
 */
import { hashText, mix } from './random.ts';

/**
 * `drop`: the connection ends before any byte. `cut`: Content-Length promises more than comes. `truncate`: JSON cut
 * short under a right Content-Length. `html`: a proxy's page with status 200. `slow`: a late answer. `trickle`: one
 * that comes in small pieces. `hang`: none at all.
 */
export const FAULT_KINDS = [
  'rate_limited',
  'internal',
  'bad_gateway',
  'unavailable',
  'drop',
  'cut',
  'truncate',
  'html',
  'slow',
  'trickle',
  'hang',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export type FaultRates = Partial<Record<FaultKind, number>>;

/** A fault of a kind; where a detail is absent the defaults of `Faults` hold. */
export interface KindFault {
  readonly kind: FaultKind;
  /** For `rate_limited` and the 5xx: seconds, or null for no Retry-After header. */
  readonly retryAfter?: number | null;
  /** Write Retry-After as an HTTP date. */
  readonly asDate?: boolean;
  /** For `slow`: before the answer; for `trickle`: between two pieces. Milliseconds. */
  readonly delayMs?: number;
  /** For `trickle`: the size of a piece. */
  readonly bytes?: number;
}

/** A whole answer of the test's own making instead of the real one. */
export interface AnswerFault {
  readonly kind: 'answer';
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

export type Fault = KindFault | AnswerFault;

/** The requests that a script is for; what is absent means any. Routes are the names in `routes.ts`. */
export interface Where {
  readonly connection?: string;
  readonly route?: string;
}

function isKind(kind: string): kind is FaultKind {
  return (FAULT_KINDS as readonly string[]).includes(kind);
}

interface Script {
  readonly fault: Fault;
  readonly where: Where;
  left: number;
}

/** A fault as drawn: `point` in [0, 1) says where in the answer it strikes. */
export interface Drawn {
  readonly fault: Fault;
  readonly point: number;
}

export class Faults {
  /** The probability of each kind, per request. */
  rates: FaultRates = {};
  /** Added before every answer, milliseconds. */
  latencyMs = 0;
  /** Retry-After where a fault does not say, in seconds. */
  retryAfter = 1;
  /** The longest delay of a `slow` that does not say, milliseconds. */
  slowMs = 500;
  /** How long a `trickle` that does not say takes in all, milliseconds. */
  trickleMs = 1000;
  /** A real limit: requests per second and key, beyond which 429 is answered. 0 = none. */
  perSecond = 0;
  /** How often each kind struck. */
  readonly struck: Record<string, number> = {};
  readonly #seed: number;
  readonly #drawn = new Map<string, number>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  #scripts: Script[] = [];

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Sets all rates: one number is spread evenly over the kinds. Kinds not named get 0. */
  setRates(rates: number | FaultRates): void {
    const unknown = typeof rates === 'number' ? [] : Object.keys(rates).filter((kind) => !isKind(kind));
    if (unknown.length > 0) throw new Error(`no such fault: ${unknown.join(', ')}`);
    if (typeof rates === 'number') {
      const each = rates / FAULT_KINDS.length;
      this.rates = Object.fromEntries(FAULT_KINDS.map((kind) => [kind, each]));
    } else this.rates = { ...rates };
  }

  /** The next `times` requests that fit get this fault, before any rate is drawn. Scripts queue up. */
  script(fault: Fault, times = 1, where: Where = {}): void {
    if (fault.kind !== 'answer' && !isKind(fault.kind)) throw new Error(`no such fault: ${fault.kind}`);
    this.#scripts.push({ fault, where, left: times });
  }

  /** How many scripted faults are still to come. */
  get scripted(): number {
    return this.#scripts.reduce((sum, { left }) => sum + left, 0);
  }

  /** No scripts, no rates, no limit, no latency from now on. */
  clear(): void {
    this.#scripts = [];
    this.rates = {};
    this.perSecond = 0;
    this.latencyMs = 0;
  }

  /** What befalls this request, if anything. */
  next(key: string, connection: string, route: string): Drawn | null {
    const count = (this.#drawn.get(connection) ?? 0) + 1;
    this.#drawn.set(connection, count);
    const seed = mix(mix(this.#seed, hashText(connection)), count);
    const fault =
      this.#fromScript(connection, route) ??
      this.#fromLimit(key) ??
      this.#fromRates(mix(seed, 1) / 4_294_967_296);
    if (!fault) return null;
    this.struck[fault.kind] = (this.struck[fault.kind] ?? 0) + 1;
    return { fault, point: mix(seed, 2) / 4_294_967_296 };
  }

  #fromScript(connection: string, route: string): Fault | null {
    const script = this.#scripts.find(
      ({ where }) =>
        (where.connection === undefined || where.connection === connection) &&
        (where.route === undefined || where.route === route),
    );
    if (!script) return null;
    if (--script.left <= 0) this.#scripts = this.#scripts.filter((one) => one !== script);
    return script.fault;
  }

  #fromLimit(key: string): Fault | null {
    if (this.perSecond <= 0) return null;
    const now = performance.now();
    const bucket = this.#buckets.get(key) ?? { tokens: this.perSecond, at: now };
    bucket.tokens = Math.min(this.perSecond, bucket.tokens + ((now - bucket.at) / 1000) * this.perSecond);
    bucket.at = now;
    this.#buckets.set(key, bucket);
    if (bucket.tokens < 1) return { kind: 'rate_limited' };
    bucket.tokens--;
    return null;
  }

  #fromRates(draw: number): Fault | null {
    let sum = 0;
    for (const kind of FAULT_KINDS) {
      sum += this.rates[kind] ?? 0;
      if (draw < sum) return { kind };
    }
    return null;
  }
}
