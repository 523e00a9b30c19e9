import { mix, Random } from '../../src/simulator/random.ts';
import { CRASH_POINTS, type CrashPoint } from '../../src/sync/crash-points.ts';

/** What a step does; all of it but the timing of the processes follows from the seed. Durations in milliseconds. */
export type Deed =
  /** A daemon dies when it comes to a point for the `nth` time; with `twin` a second one does, too. */
  | { readonly do: 'crash'; readonly point: CrashPoint; readonly nth: number; readonly twin: boolean }
  /** A daemon dies at a moment of its life that nobody chose. */
  | { readonly do: 'kill'; readonly after: number }
  /** One of two daemons stops for longer than its lease lasts, wakes up, and later both die. */
  | { readonly do: 'freeze'; readonly forMore: number }
  /** Postgres dies under a daemon, which goes on by itself and dies later. */
  | { readonly do: 'postgres'; readonly how: PostgresDeath; readonly when: Moment; readonly down: number }
  /** The way to Postgres is cut under a running daemon, which dies later. */
  | { readonly do: 'cut'; readonly times: number; readonly refuseFor: number }
  /** Postgres is there and nothing gets through, until the daemon cuts its connections itself; it dies later. */
  | { readonly do: 'silence'; readonly lasts: number }
  /** A daemon is asked to stop, in mid-backlog or not, and does so in order. */
  | { readonly do: 'stop'; readonly after: number };

/** A crash point at which the daemon is halted meanwhile; the middle of its work; or so long after its start. */
export type Moment = CrashPoint | 'at work' | number;

export const POSTGRES_DEATHS = ['immediate', 'SIGKILL'] as const;
export type PostgresDeath = (typeof POSTGRES_DEATHS)[number];

export type Step = Deed & {
  /** PAGE_LIMIT of the step's daemons. */
  readonly limit: number;
  /** Answers of each connection, during the step, that come from a copy which lags behind. */
  readonly lagging: number;
};

export interface Plan {
  readonly seed: number;
  readonly connections: number;
  readonly messages: number;
  readonly changesPerSecond: number;
  /** Whether the records of a page come in any order, and some of them twice. */
  readonly disorderly: boolean;
  /** The share of requests that meet a network fault. */
  readonly faultRate: number;
  readonly steps: readonly Step[];
}

/** The daemons that a step kills. */
export function killsOf(deed: Deed): number {
  if (deed.do === 'stop') return 0;
  return deed.do === 'freeze' || (deed.do === 'crash' && deed.twin) ? 2 : 1;
}

/** Points that a page passes, so that a daemon meets them again and again. */
const PAGE_POINTS = CRASH_POINTS.filter((point) => point !== 'migrating' && point !== 'stopping');
/** Inside a page's transaction: where a death of Postgres matters most. */
const IN_TRANSACTION = ['rows_written', 'before_commit', 'committed'] as const;

/** What befalls the daemons of one world, with exactly `kills` of them killed. */
export function planOf(seed: number, kills: number): Plan {
  const random = new Random(mix(seed, 77));
  const must: Deed[] = [
    { do: 'postgres', how: random.pick(POSTGRES_DEATHS), when: random.pick(IN_TRANSACTION), down: 50 },
    { do: 'postgres', how: random.pick(POSTGRES_DEATHS), when: random.int(900), down: random.int(300) },
    ...PAGE_POINTS.map((point): Deed => crash(random, point)),
    { do: 'crash', point: 'stopping', nth: 1, twin: false },
    { do: 'freeze', forMore: 300 + random.int(700) },
    { do: 'cut', times: 1 + random.int(3), refuseFor: random.int(300) },
    { do: 'stop', after: random.int(400) },
    ...(random.chance(0.4) ? [silence(random)] : []),
  ];
  // The migration is over once and for all, so what dies in it dies first.
  const several = kills >= must.length;
  const first: Deed[] = [{ do: 'crash', point: 'migrating', nth: 1, twin: several && random.chance(0.3) }];
  if (several && random.chance(0.5))
    first.push({ do: 'postgres', how: random.pick(POSTGRES_DEATHS), when: 'migrating', down: 50 });
  const deeds: Deed[] = [];
  let left = kills - first.reduce((sum, deed) => sum + killsOf(deed), 0);
  for (let i = 0; left > 0; i++) {
    const deed = must[i] ?? randomDeed(random);
    if (killsOf(deed) > left) continue;
    left -= killsOf(deed);
    deeds.push(deed);
  }
  shuffle(random, deeds);
  return {
    seed,
    connections: 2 + random.int(3),
    messages: kills * (100 + random.int(150)),
    changesPerSecond: random.pick([20, 60, 150]),
    disorderly: random.chance(0.5),
    faultRate: random.pick([0, 0.05, 0.15]),
    steps: [...first, ...deeds].map((deed) => ({
      ...deed,
      limit: random.pick([5, 10, 30, 100]),
      lagging: random.chance(0.3) ? 1 + random.int(2) : 0,
    })),
  };
}

function crash(random: Random, point: CrashPoint): Deed {
  return { do: 'crash', point, nth: 1 + random.int(12), twin: false };
}

function randomDeed(random: Random): Deed {
  const draw = random.int(100);
  if (draw < 50) return { ...crash(random, random.pick(PAGE_POINTS)), twin: random.chance(0.15) } as Deed;
  if (draw < 62) return { do: 'crash', point: 'stopping', nth: 1, twin: false };
  if (draw < 80) return { do: 'kill', after: random.int(1500) };
  if (draw < 88) return { do: 'cut', times: 1 + random.int(3), refuseFor: random.int(400) };
  if (draw < 93) return { do: 'stop', after: random.int(400) };
  if (draw < 94) return silence(random);
  if (draw < 98) {
    const when = random.pick<Moment>([...IN_TRANSACTION, 'at work', random.int(900)]);
    return { do: 'postgres', how: random.pick(POSTGRES_DEATHS), when, down: random.int(600) };
  }
  return { do: 'freeze', forMore: 100 + random.int(1000) };
}

function silence(random: Random): Deed {
  return { do: 'silence', lasts: 200 + random.int(1500) };
}

function shuffle(random: Random, list: unknown[]): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.int(i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
}
