import { sql } from 'kysely';
import { waitFor } from '../support/wait.ts';
import type { DaemonProcess, Trap } from './daemon-process.ts';
import type { Outcome } from './scenario.ts';
import { LEASE_TTL, type Stage } from './stage.ts';

/** Pages of a daemon that say that it is at work, before something befalls it. */
const AT_WORK = 2;
/** How long a daemon may take to come to where its trap is, or to its work, in milliseconds. */
export const PATIENCE = 30_000;
/** SHUTDOWN_TIMEOUT of `quickSettings`, and a busy machine, in milliseconds. */
const STOP_TIMEOUT = 6_000;

/** The daemons of a scenario: started, watched, killed and counted. */
export class Fleet {
  readonly #stage: Stage;
  readonly #outcome: Outcome;
  readonly #daemons: DaemonProcess[] = [];

  constructor(stage: Stage, outcome: Outcome) {
    this.#stage = stage;
    this.#outcome = outcome;
  }

  start(limit: number, trap?: Trap): DaemonProcess {
    const daemon = this.#stage.start(limit, trap);
    this.#daemons.push(daemon);
    return daemon;
  }

  /** Waits until a daemon has committed pages of its own. */
  async atWork(daemon: DaemonProcess): Promise<void> {
    await this.#pages(daemon, AT_WORK, 'to be at work');
  }

  /** Waits until a daemon has committed more pages than until now. */
  async goesOn(daemon: DaemonProcess): Promise<void> {
    await this.#pages(daemon, AT_WORK + (await this.#stage.pagesOf(daemon)), 'to go on by itself');
  }

  async #pages(daemon: DaemonProcess, wanted: number, what: string): Promise<void> {
    await waitFor(
      async () => {
        // A change of the upstream's makes a page where the backlog is done.
        this.#stage.simulator.world.applyChanges(1);
        return daemon.end !== undefined || (await this.#stage.pagesOf(daemon)) >= wanted;
      },
      { what: `a daemon ${what}`, deadlineMs: PATIENCE },
    );
    if (daemon.end === undefined) return;
    const last = daemon.stderr.trim().split('\n').at(-1);
    throw new Error(`a daemon was ${what}, and ended (${daemon.end}): ${last}`);
  }

  /** Waits until a daemon, left alone, holds every connection. */
  async takesOver({ worker }: DaemonProcess, what: string): Promise<void> {
    const others = sql`select from sync_state where lease_owner is distinct from ${worker!}`;
    const all = async () => (await others.execute(this.#stage.db)).rows.length === 0;
    await waitFor(all, { what, deadlineMs: LEASE_TTL + 2_000 });
  }

  /** Waits until a daemon holds no connection any more. */
  async losesAll({ worker }: DaemonProcess, what: string): Promise<void> {
    const held = sql`select from sync_state where lease_owner = ${worker!}`;
    const none = async () => (await held.execute(this.#stage.db)).rows.length === 0;
    await waitFor(none, { what, deadlineMs: LEASE_TTL + 2_000 });
  }

  /** Waits until a daemon is dead by its own hand. */
  async dies(daemon: DaemonProcess, at: string): Promise<void> {
    const what = `a daemon to die at ${at}`;
    await waitFor(() => daemon.end !== undefined, { what, deadlineMs: PATIENCE }).catch(() => {});
    const { end = 'nothing' } = daemon;
    if (end !== 'SIGKILL') throw new Error(`a daemon was to die at ${at}, and came to ${end}`);
    count(this.#outcome.kills, at);
  }

  async kill(daemon: DaemonProcess): Promise<void> {
    const end = await daemon.kill('SIGKILL');
    if (end !== 'SIGKILL') throw new Error(`a daemon ended by itself (${end})`);
    count(this.#outcome.kills, 'at random');
  }

  /** Asks a daemon to stop, which it does in order and in time (R16). */
  async stop(daemon: DaemonProcess): Promise<void> {
    const startedAt = performance.now();
    const end = await daemon.kill('SIGTERM');
    const took = performance.now() - startedAt;
    if (end !== 0 || took > STOP_TIMEOUT) {
      throw new Error(`a daemon ended with ${end} in ${Math.round(took)} ms after SIGTERM`);
    }
    count(this.#outcome.others, 'orderly stop');
  }

  /** Ends what still runs. */
  async end(): Promise<void> {
    await Promise.all(this.#daemons.filter(({ end }) => end === undefined).map((one) => one.kill('SIGKILL')));
  }

  /** What the last two daemons logged, one of which something is wrong with. */
  get log(): string {
    const lastTwo = this.#daemons.slice(-2);
    return lastTwo.map(({ pid, end = 'running', stderr }) => `${pid} ${end}:\n${stderr}`).join('\n');
  }
}

export function count(counts: Record<string, number>, name: string, by = 1): void {
  if (by > 0) counts[name] = (counts[name] ?? 0) + by;
}
