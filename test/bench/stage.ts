import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { DEFAULT_API_KEY, type SimulatorOptions } from '../../src/simulator/options.ts';
import { build, CACHE } from './build.ts';
import { Daemon } from './daemon.ts';
import { type BenchDatabase, type BenchPostgres, startBenchPostgres } from './postgres.ts';
import { startUpstream, type Upstream } from './upstream.ts';

export interface BenchOptions {
  readonly rounds: number;
  /** Messages of a backlog; undefined: each bench's own. */
  readonly rows: number | undefined;
  /** The smallest that shows anything: to see that it runs. */
  readonly tiny: boolean;
  readonly seed: number;
  /** Profile the daemon and Postgres; what is measured meanwhile is slower. */
  readonly profile: boolean;
  /** Where the database goes. */
  readonly dir: string | undefined;
}

/** What benches run on: one Postgres, one build of the program, and whatever upstreams and daemons they start. */
export interface Stage {
  readonly options: BenchOptions;
  readonly postgres: BenchPostgres;
  readonly bin: string;
  /** The same with a Postgres of its own that has other settings than it comes with. It ends with the bench. */
  tuned(settings: Readonly<Record<string, string>>): Promise<Stage>;
  /** A line for whoever waits. */
  readonly note: (line: string) => void;
  /** Picks by size: the bench's own, or the one for a try. */
  size(ordinary: number, tiny: number): number;
  /** The same, for what `--rows` sets. */
  rows(ordinary: number, tiny: number): number;
  /** It ends with the bench. */
  upstream(options: Partial<SimulatorOptions>): Promise<Upstream>;
  /** A daemon between an upstream and a database. It ends with the bench where it is not stopped before. */
  daemon(upstream: Upstream, database: BenchDatabase, env?: Readonly<Record<string, string>>): Daemon;
  /** Where profiles go; undefined where none are wanted. */
  readonly profileDir: string | undefined;
  /** What every process of ours has in its environment besides. */
  readonly env: Readonly<Record<string, string>>;
  /** Ends everything that a bench has started. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** Settings that every daemon here has: the key, and a poll only when a bench wants one. */
export function daemonSettings(upstream: Upstream, database: BenchDatabase): Record<string, string> {
  return {
    DATABASE_URL: database.url,
    WHATSAPP_USE_API_KEY: DEFAULT_API_KEY,
    WHATSAPP_USE_BASE_URL: upstream.url,
    POLL_INTERVAL: '10m',
    POLL_INTERVAL_IDLE: '10m',
    // The simulator has no limit; the contract's default of 100 a second would be what is measured.
    REQUEST_RATE: '10000',
  };
}

const PROFILED = {
  shared_preload_libraries: 'pg_stat_statements',
  'pg_stat_statements.track_planning': 'on',
};
/** For the smallest size only. */
const HASTY = { fsync: 'off', full_page_writes: 'off' };

export async function openStage(options: BenchOptions, note: (line: string) => void): Promise<Stage> {
  const program = await build();
  const settings = {
    ...(options.profile && PROFILED),
    ...(options.tiny && HASTY),
  };
  // A start is most of what a tiny run does, and its memory is nobody's figure.
  const hasty = options.tiny ? { NODE_COMPILE_CACHE: path.join(CACHE, 'compiled') } : {};
  const postgres = await startBenchPostgres(options.dir, settings, note).catch((error: unknown) => {
    program.remove();
    throw error;
  });
  const profileDir = options.profile ? path.join(CACHE, 'profiles', String(process.pid)) : undefined;
  if (profileDir !== undefined) mkdirSync(profileDir, { recursive: true });
  const ends: (() => Promise<void>)[] = [];
  const clear = async () => {
    // The latest first; each tells nobody of its end, for it may have ended already.
    for (const end of ends.splice(0).reverse()) await end().catch(() => {});
  };
  const stage: Stage = {
    options,
    postgres,
    bin: program.bin,
    async tuned(further) {
      const other = await startBenchPostgres(options.dir, { ...settings, ...further }, note);
      ends.push(() => other.destroy());
      return { ...stage, postgres: other };
    },
    note,
    profileDir,
    env: hasty,
    size: (ordinary, tiny) => (options.tiny ? tiny : ordinary),
    rows: (ordinary, tiny) => options.rows ?? (options.tiny ? tiny : ordinary),
    async upstream(given) {
      const upstream = await startUpstream({ seed: options.seed, ...given }, hasty);
      ends.push(() => upstream.close());
      return upstream;
    },
    daemon(upstream, database, env = {}) {
      const all = { ...hasty, ...daemonSettings(upstream, database), ...env };
      const daemon = new Daemon({ bin: program.bin, env: all, profileDir });
      ends.push(async () => void (await daemon.kill('SIGKILL')));
      return daemon;
    },
    clear,
    async close() {
      await clear();
      await postgres.destroy();
      program.remove();
    },
  };
  return stage;
}
