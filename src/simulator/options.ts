/** What a simulator can be told at its start, with the defaults. */
import type { KeyOptions, MeShape } from './access.ts';
import type { FaultRates } from './faults.ts';
import type { World } from './world.ts';

export const DEFAULT_API_KEY = 'pa_live_simulated';

export interface SimulatorOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** 0 … 2^32 − 1. Names the world, its traffic and its faults. */
  readonly seed: number;
  /** How many connections, or their ids. */
  readonly connections: number | readonly string[];
  /** In all, spread evenly over the connections. */
  readonly messages: number;
  /** How far back the oldest message lies, days; the upstream serves 30. */
  readonly historyDays: number;
  /** The first seq of every connection; null = beyond 2^53 and different for each. */
  readonly startSeq: bigint | null;
  /** One key that reaches every connection, unless `keys` says otherwise. */
  readonly apiKey: string;
  /** Instead of `apiKey`. */
  readonly keys: readonly KeyOptions[] | null;
  readonly meShape: MeShape;
  /** Changes per second from the start; 0 = none until `startTraffic`. */
  readonly live: number;
  /** Before every answer, milliseconds. */
  readonly latencyMs: number;
  /** One number: the share of requests that meet a fault of any kind. */
  readonly faults: number | FaultRates;
  /** Where a request names no limit. The guide's examples use 50; the default is not documented. */
  readonly limitDefault: number;
  /** The greatest limit; not documented. */
  readonly limitMax: number;
  /** What a greater one gets: as much as the greatest, or 400. */
  readonly overLimit: 'cap' | 'refuse';
  /** How much of its sync answers it keeps while a connection does not change, in bytes; 0 = makes each anew. */
  readonly keepBytes: number;
  /** The clock, milliseconds since the epoch. */
  readonly now: () => number;
  /** A world made beforehand: then nothing is populated, and no key is added where it has any. */
  readonly world: World | null;
}

export const DEFAULTS: SimulatorOptions = Object.freeze({
  host: '127.0.0.1',
  port: 0,
  seed: 1,
  connections: 3,
  messages: 20_000,
  historyDays: 28,
  startSeq: null,
  apiKey: DEFAULT_API_KEY,
  keys: null,
  meShape: 'ids',
  live: 0,
  latencyMs: 0,
  faults: 0,
  limitDefault: 50,
  limitMax: 2000,
  overLimit: 'cap',
  keepBytes: 0,
  now: Date.now,
  world: null,
});
