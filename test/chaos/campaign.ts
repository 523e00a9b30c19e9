import { mix } from '../../src/simulator/random.ts';
import { planOf } from './plan.ts';
import { type Outcome, runScenario } from './scenario.ts';
import { startServer } from './stage.ts';

export interface CampaignOptions {
  readonly seed: number;
  readonly kills: number;
  /** Scenarios at a time, each with a Postgres of its own: a lease that runs out is waited for most of the time. */
  readonly lanes: number;
  /** Told what happens, a line at a time. */
  readonly note: (line: string) => void;
}

/** A scenario's share of the kills: enough for each kind of death, few enough to check the tables often. */
const KILLS_PER_SCENARIO = 25;

/** Runs scenarios until `kills` daemons are dead, or until something is wrong; gives the sum of them. */
export async function runCampaign({ seed, kills, lanes, note }: CampaignOptions): Promise<Outcome> {
  const scenarios = Math.max(1, Math.round(kills / KILLS_PER_SCENARIO));
  const shares = Array.from(
    { length: scenarios },
    (_, i) => Math.floor(((i + 1) * kills) / scenarios) - Math.floor((i * kills) / scenarios),
  );
  const sum: Outcome = {
    breaches: [],
    kills: {},
    postgresDeaths: {},
    others: {},
    faults: {},
    pages: 0,
    rows: 0,
  };
  let next = 0;
  const lane = async () => {
    const server = await startServer();
    try {
      while (next < scenarios && sum.breaches.length === 0) {
        const number = next++;
        const startedAt = performance.now();
        const plan = planOf(mix(seed, number), shares[number]!);
        const outcome = await runScenario(server, plan, (what) => note(`scenario ${number}: ${what}`));
        const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
        note(`scenario ${number}: done in ${seconds} s: ${outcome.pages} pages, ${outcome.rows} rows`);
        for (const breach of outcome.breaches) sum.breaches.push(`scenario ${number}: ${breach}`);
        if (outcome.log !== undefined) sum.log = outcome.log;
        for (const part of ['kills', 'postgresDeaths', 'others', 'faults'] as const)
          add(sum[part], outcome[part]);
        sum.pages += outcome.pages;
        sum.rows += outcome.rows;
      }
    } finally {
      await server.destroy();
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: Math.min(lanes, scenarios) }, lane));
  for (const end of ends) if (end.status === 'rejected') sum.breaches.push(String(end.reason));
  return sum;
}

export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

function add(to: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) to[name] = (to[name] ?? 0) + count;
}
