import { createHash } from 'node:crypto';
import type { PostgresPool, PostgresPoolClient } from 'kysely';
import type pg from 'pg';
import { toItsEnd } from './cancel-request.ts';

/*
 * Statements that come again and again get a name, so that Postgres reads them once in a session: of the time of a page
 * of ten messages that is a quarter. A name is the session's, and behind a pooler in transaction mode the next
 * transaction may be in another one (R15). So names are given only where the process that answers is the one that
 * answered the login; a pooler makes up the id that it greets with. Each time they are planned anew, but where
 * `transaction.ts` says otherwise.
 * There, what begins a transaction is not waited for either, but goes out with its first statement
 * (https://node-postgres.com/features/pipelining): of six ways to Postgres and back that a page takes, two are saved.
 * Whether every pooler bears with that is not known.
 */

/** How often a text must have come before it gets a name. */
const TIMES = 3;
/** How long plans are kept, in milliseconds; tables grow. */
const PLANS_LAST = 60_000;
/** Texts with a name, at most: what is put together anew each time must not fill the server's memory. */
const MOST_TEXTS = 100;

/** SQLSTATEs of a name that is not what it was: unknown, taken, or of a statement whose columns have changed. */
const ASTRAY: readonly unknown[] = ['26000', '42P05', '0A000'];

/** What begins a transaction and sets its limits (`transaction.ts`): of its answer nothing is wanted but that it is good. */
const OPENING = /^(?:start transaction|select set_config\()/;
/** What may be sent before it is known that the transaction has begun. Anything else would be committed by itself where
 * the server has refused to begin one, as it does where somebody cancels just then. */
const READING = /^\s*select\s/;
/** What is sent whatever came of the beginning, which the error that leads to it need not be of. */
const ROLLBACK = 'rollback';
/** Indexes take hours, which a restart shall not lose: the next process waits for what Postgres is at. */
const BUILDING = /^create index /;
const NO_ROWS = { command: '', rowCount: 0, rows: [] };

const times = new Map<string, number>();
const names = new Map<string, string>();

/**
 * A pool as Kysely wants it, whose sessions name statements, and begin transactions without waiting, where that is safe.
 * @param patient whether statements may take however long, whatever statement_timeout or transaction_timeout the role has:
 * building an index, a migration. Behind a pooler the role's counts.
 */
export function sessionsOf(pool: pg.Pool, patient: boolean): PostgresPool {
  const sessions = new WeakMap<pg.PoolClient, Session>();
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      try {
        const known = sessions.get(client);
        if (known !== undefined) {
          await known.refresh();
          return known;
        }
        const session = new Session(client, await isDirect(client, patient));
        sessions.set(client, session);
        return session;
      } catch (error) {
        client.release(true);
        throw error;
      }
    },
  };
}

/** By way of the list of settings: `transaction_timeout` is known from Postgres 17 on. */
const NO_LIMITS = `select set_config(name, '0', false) from pg_settings
  where name in ('statement_timeout', 'transaction_timeout')`;

/** Whether the session is Postgres' own, and then prepares it. */
async function isDirect(client: pg.PoolClient, patient: boolean): Promise<boolean> {
  const { processID } = client as pg.PoolClient & { readonly processID: number | null };
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  if (rows[0]?.pid !== processID) return false;
  await client.query('set plan_cache_mode = force_custom_plan');
  if (patient) await client.query(NO_LIMITS);
  return true;
}

class Session implements PostgresPoolClient {
  readonly #client: pg.PoolClient;
  readonly #direct: boolean;
  #named: boolean;
  /** Answers that are still to come, of what opens the transaction. */
  readonly #opening: Promise<unknown>[] = [];
  #plannedSince = performance.now();

  constructor(client: pg.PoolClient, direct: boolean) {
    this.#client = client;
    this.#direct = direct;
    this.#named = direct;
  }

  get processID(): number {
    return (this.#client as pg.PoolClient & { readonly processID: number }).processID;
  }

  /** Forgets plans that are old. */
  async refresh(): Promise<void> {
    if (!this.#named || performance.now() - this.#plannedSince < PLANS_LAST) return;
    await this.#client.query('discard plans');
    this.#plannedSince = performance.now();
  }

  release(destroy?: boolean): void {
    this.#client.release(destroy);
  }

  /** Cursors, the other form of it, are not used. */
  readonly query = (async (text: string, values: readonly unknown[] = []) => {
    if (this.#direct && OPENING.test(text)) {
      const answer = this.#send(text, values);
      // told by the statement that comes next
      answer.catch(() => {});
      this.#opening.push(answer);
      return NO_ROWS;
    }
    const begun = this.#opening.splice(0);
    const opening = text === ROLLBACK ? [] : begun;
    if (!READING.test(text)) await Promise.all(opening);
    const [result] = await Promise.all([this.#send(text, values), ...opening]);
    return result;
  }) as unknown as PostgresPoolClient['query'];

  async #send(text: string, values: readonly unknown[]): Promise<unknown> {
    if (BUILDING.test(text)) return await toItsEnd(this.#client, () => this.#client.query(text));
    const name = this.#named && values.length > 0 ? nameOf(text) : undefined;
    if (name === undefined) return await this.#client.query(text, [...values]);
    try {
      return await this.#client.query({ name, text, values: [...values] });
    } catch (error) {
      if (ASTRAY.includes((error as { code?: unknown }).code)) this.#named = false;
      throw error;
    }
  }
}

/** The same for a text in all sessions; undefined where it has none. */
function nameOf(text: string): string | undefined {
  const known = names.get(text);
  if (known !== undefined) return known;
  if (names.size >= MOST_TEXTS) return undefined;
  const count = (times.get(text) ?? 0) + 1;
  if (count < TIMES) {
    // The oldest that did not come again makes room.
    if (times.size >= MOST_TEXTS) times.delete(times.keys().next().value!);
    times.set(text, count);
    return undefined;
  }
  times.delete(text);
  const name = `wa_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
  names.set(text, name);
  return name;
}
