import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { waitFor } from '../support/wait.ts';
import { count, Fleet, PATIENCE } from './fleet.ts';
import { breachesAtRest, breachesNow } from './invariants.ts';
import type { Plan, Step } from './plan.ts';
import { openStage, type Server, type Stage } from './stage.ts';

/** What came of a scenario. */
export interface Outcome {
  /** Empty where all that must hold held. */
  readonly breaches: string[];
  /** Daemons killed, by where. */
  readonly kills: Record<string, number>;
  readonly postgresDeaths: Record<string, number>;
  /** Other misfortunes: freezes, cuts, silences, lagging answers, orderly stops. */
  readonly others: Record<string, number>;
  /** Network faults met, by kind. */
  readonly faults: Record<string, number>;
  pages: number;
  rows: number;
  /** What the last daemons logged, where something is wrong. */
  log?: string;
}

/** Lets a world's daemons die as planned, and checks what must hold after every death and at the end. */
export async function runScenario(
  server: Server,
  plan: Plan,
  note: (what: string) => void = () => {},
): Promise<Outcome> {
  const stage = await openStage(server, plan);
  const { struck: faults } = stage.simulator.faults;
  const outcome: Outcome = {
    ...{ breaches: [], kills: {}, postgresDeaths: {}, others: {} },
    ...{ faults, pages: 0, rows: 0 },
  };
  const fleet = new Fleet(stage, outcome);
  const scenario = new Scenario(stage, fleet, outcome);
  try {
    for (const step of plan.steps) {
      note(JSON.stringify(step));
      await scenario.step(step);
      outcome.breaches.push(...(await breachesNow(stage.db)));
      if (outcome.breaches.length > 0) break;
    }
    if (outcome.breaches.length === 0) await scenario.finish();
  } catch (error) {
    outcome.breaches.push((error as Error).message);
  } finally {
    if (outcome.breaches.length > 0) outcome.log = fleet.log;
    await fleet.end();
    await stage.close();
  }
  return outcome;
}

class Scenario {
  readonly #stage: Stage;
  readonly #fleet: Fleet;
  readonly #outcome: Outcome;

  constructor(stage: Stage, fleet: Fleet, outcome: Outcome) {
    this.#stage = stage;
    this.#fleet = fleet;
    this.#outcome = outcome;
  }

  async step(step: Step): Promise<void> {
    const { lagging, limit } = step;
    this.#stage.lag(lagging);
    count(this.#outcome.others, 'lagging answer', lagging);
    switch (step.do) {
      case 'crash':
        return await this.#crash(step);
      case 'kill': {
        const daemon = this.#fleet.start(limit);
        await sleep(step.after);
        return await this.#fleet.kill(daemon);
      }
      case 'freeze':
        return await this.#freeze(step);
      case 'postgres':
        return await this.#postgres(step);
      case 'cut':
      case 'silence':
        return await this.#sever(step);
      case 'stop': {
        const daemon = this.#fleet.start(limit);
        await this.#fleet.atWork(daemon);
        await sleep(step.after);
        return await this.#fleet.stop(daemon);
      }
    }
  }

  async #crash({ point, nth, twin, limit }: Extract<Step, { do: 'crash' }>): Promise<void> {
    const trap = { point, nth, signal: 'SIGKILL' } as const;
    const daemons = Array.from({ length: twin ? 2 : 1 }, () => this.#fleet.start(limit, trap));
    if (point === 'stopping') {
      await this.#fleet.atWork(daemons[0]!);
      daemons[0]!.signal('SIGTERM');
    }
    await Promise.all(daemons.map((daemon) => this.#fleet.dies(daemon, point)));
  }

  /** One of two daemons wakes up after its connections went to the other: it must harm nothing. */
  async #freeze({ forMore, limit }: Extract<Step, { do: 'freeze' }>): Promise<void> {
    const fleet = this.#fleet;
    const one = fleet.start(limit);
    await fleet.atWork(one);
    const other = fleet.start(limit);
    await other.logged('replicating');
    one.signal('SIGSTOP');
    await fleet.losesAll(one, 'a frozen daemon’s connections to be taken over');
    await fleet.atWork(other);
    await sleep(forMore);
    one.signal('SIGCONT');
    await fleet.goesOn(other);
    count(this.#outcome.others, 'freeze');
    await fleet.kill(other);
    await fleet.takesOver(one, 'a daemon that was frozen to take the connections of a dead one');
    await fleet.kill(one);
  }

  async #postgres({ when, how, down, limit }: Extract<Step, { do: 'postgres' }>): Promise<void> {
    const point = typeof when === 'number' || when === 'at work' ? undefined : when;
    const nth = point === 'migrating' ? 1 : 3;
    const daemon = this.#fleet.start(limit, point && { point, nth, signal: 'SIGSTOP' });
    if (typeof when === 'number') await sleep(when);
    else if (point === undefined) await this.#fleet.atWork(daemon);
    else {
      const what = `a daemon to freeze at ${point}`;
      await waitFor(() => daemon.isFrozen(), { what, deadlineMs: PATIENCE });
    }
    const back = this.#stage.killPostgres(how, down);
    if (point !== undefined) {
      await sleep(down / 2);
      daemon.signal('SIGCONT');
    }
    await back;
    count(this.#outcome.postgresDeaths, how);
    await this.#fleet.goesOn(daemon);
    await this.#fleet.kill(daemon);
  }

  /** The way to Postgres fails, loudly or not. */
  async #sever(step: Extract<Step, { do: 'cut' | 'silence' }>): Promise<void> {
    const { proxy } = this.#stage;
    const daemon = this.#fleet.start(step.limit);
    await this.#fleet.atWork(daemon);
    for (let i = 0; i < (step.do === 'cut' ? step.times : 1); i++) {
      if (step.do === 'silence') proxy.blackhole();
      else {
        if (step.refuseFor > 0) await proxy.refuse();
        proxy.cut();
      }
      await sleep(step.do === 'cut' ? step.refuseFor : step.lasts);
      await proxy.heal();
      await this.#fleet.goesOn(daemon);
      count(this.#outcome.others, step.do);
    }
    await this.#fleet.kill(daemon);
  }

  /** The last daemon inherits what the dead ones held, catches up, and ends in order. */
  async finish(): Promise<void> {
    const { db, simulator } = this.#stage;
    await this.#stage.calm();
    const last = this.#fleet.start(500);
    await last.logged('replicating', PATIENCE);
    await this.#fleet.takesOver(last, 'the dead daemons’ connections to be taken over');
    const { connections } = simulator.world;
    const caughtUp = async () => {
      const { rows } = await sql<{ id: string; cursor: string }>`
        select connection_id as id, cursor::text from sync_state where not has_more`.execute(db);
      const isDone = ({ id, cursor }: (typeof rows)[number]) =>
        String(connections.get(id)?.newest) === cursor;
      return rows.length === connections.size && rows.every(isDone);
    };
    await waitFor(caughtUp, { what: 'the last daemon to catch up', deadlineMs: PATIENCE });
    this.#outcome.breaches.push(...(await breachesAtRest(db, simulator)));
    await this.#fleet.stop(last);
    const { rows } = await sql<{ pages: number; rows: number; leased: number }>`
      select (select count(*) from sync_pages)::integer as pages,
        sum(stored_conversations + stored_contacts + stored_messages)::integer as rows,
        count(lease_owner)::integer as leased from sync_state`.execute(db);
    Object.assign(this.#outcome, { pages: rows[0]!.pages, rows: rows[0]!.rows });
    if (rows[0]!.leased > 0) this.#outcome.breaches.push('a daemon stopped and kept leases');
  }
}
