import { afterEach, describe, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { type CliProcess, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { FailingPostgres } from './failing-postgres.ts';

/* What a Postgres may do wrong: the daemon stays up, says so without flooding the log, and goes on by itself. */

const SHUTDOWN_TIMEOUT = 2_000;

const scene = FailingPostgres.use();
let daemon: CliProcess;

/** Ends what ails the server, where something does. */
let heal = async () => {};

afterEach(async () => {
  await daemon?.kill('SIGKILL');
  await heal();
});

/** Ends the daemon's connections, so that it has to begin others. */
const disconnect = () =>
  scene.admin(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = '${scene.name}' and application_name like 'wa-replica %' and application_name not like '%test'`);

async function startDaemon(more: Record<string, string> = {}): Promise<void> {
  daemon = startCli(['run'], {
    ...quickSettings(scene.proxied, scene.simulator.url),
    // Time-outs of statements follow from it.
    LEASE_TTL: '1s',
    SHUTDOWN_TIMEOUT: `${SHUTDOWN_TIMEOUT}ms`,
    // What it would hear of is no part of this, and it would have connections of its own.
    LISTEN_DATABASE_URL: 'off',
    ...more,
  });
  await scene.agreed('the backlog');
}

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly error?: string;
  readonly failures?: number;
}

const lines = () =>
  daemon.stderr
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);

/** Does nothing, and ends this long after the signal. What a daemon does at its end has bounds that would make a second
 * more, each after the other. */
const WITNESS = `process.on('SIGTERM', () => setTimeout(process.exit, ${SHUTDOWN_TIMEOUT + 900}));
  console.error('{"msg":"up"}');
  setInterval(() => {}, 60_000);`;

/** A busy machine lets both wait, so that it does not decide which of them ends first. */
async function expectEndInTime(): Promise<void> {
  const witness = new Child(['-e', WITNESS], {});
  await witness.logged('up');
  const late = witness.kill('SIGTERM').then(() => 'the witness');
  expect(await Promise.race([daemon.kill('SIGTERM'), late]), daemon.stderr).toBe(0);
  await witness.kill('SIGKILL');
}

interface Condition {
  readonly what: string;
  /** In the log while it lasts. */
  readonly says: RegExp;
  /** Failures in a row that are waited for. */
  readonly failures: number;
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
  /** What else holds while it lasts. */
  meanwhile?(): Promise<void>;
}

/** Lets every write of a message fail with an error of this code. */
const failing = (code: string, when = 'true') =>
  scene.query(`
    create or replace function whatsapp.fail() returns trigger language plpgsql as
      $$ begin if ${when} then raise exception 'no' using errcode = '${code}'; end if; return new; end $$;
    create trigger fail before insert or update on whatsapp.messages for each row execute function whatsapp.fail()`);
const unfailing = () => scene.query('drop trigger fail on whatsapp.messages');

async function standby(setting: string): Promise<void> {
  await scene.admin(`alter system ${setting}`);
  await scene.admin('select pg_reload_conf()');
}

async function lock(table: string): Promise<void> {
  const client = await scene.connect();
  await client.query(`begin; lock table whatsapp.${table} in access exclusive mode`);
}
const unlock = () => scene.hangUp();

const CONDITIONS: Condition[] = [
  {
    what: 'stops and is started again',
    // 57P03 while it starts; the proxy takes connections and ends them.
    says: /57P0|ECONN|NO_CONNECTION/,
    failures: 8,
    begin: () => scene.postgres.stop(),
    end: () => scene.postgres.start(),
  },
  {
    what: 'is read-only for a while, as a standby is',
    says: /25006/,
    failures: 8,
    async begin() {
      await scene.admin(`alter database ${scene.name} set default_transaction_read_only = on`);
      await disconnect();
    },
    // Sessions keep what they began with, as those to a server that has become a standby do.
    end: () => scene.admin(`alter database ${scene.name} reset default_transaction_read_only`),
  },
  {
    what: 'has its messages locked by somebody',
    says: /57014/,
    failures: 2,
    begin: () => lock('messages'),
    end: unlock,
  },
  {
    what: 'has the state locked by somebody',
    says: /ETIMEDOUT/,
    failures: 2,
    begin: () => lock('sync_state'),
    end: unlock,
    // Each attempt begins a new session, and the one before must not wait on: a failure that is noted, a look at the
    // lease, a renewal.
    async meanwhile() {
      const waiting = await scene.query("select from pg_stat_activity where wait_event_type = 'Lock'");
      expect(waiting.length).toBeLessThanOrEqual(3);
    },
  },
  {
    what: 'has a lock_timeout, and a lock',
    says: /55P03/,
    failures: 4,
    async begin() {
      await scene.admin(`alter database ${scene.name} set lock_timeout = '50ms'`);
      await disconnect();
      await lock('messages');
    },
    end: unlock,
  },
  {
    what: 'waits for a synchronous standby that is away',
    says: /ETIMEDOUT/,
    failures: 2,
    begin: () => standby(`set synchronous_standby_names = 'nobody'`),
    end: () => standby('reset synchronous_standby_names'),
    async meanwhile() {
      const env = quickSettings(scene.url, scene.simulator.url);
      const told = async () => (await runCommand(['doctor'], env)).stdout;
      await waitFor(
        async () => (await told()).includes('✗ database: commits wait for a synchronous standby'),
        {
          what: 'doctor to tell of it',
        },
      );
    },
  },
  {
    what: 'has no connection left',
    says: /53300/,
    failures: 8,
    async begin() {
      await scene.proxy.refuse();
      scene.proxy.cut();
      await waitFor(
        () =>
          scene.connect().then(
            () => false,
            () => true,
          ),
        { what: 'no connection to be left', everyMs: 0 },
      );
      await scene.proxy.heal();
    },
    end: unlock,
  },
  {
    what: 'answers nothing any more',
    says: /ETIMEDOUT/,
    failures: 1,
    begin: async () => scene.proxy.blackhole(),
    end: () => scene.proxy.heal(),
  },
  ...['53100', '40001', '40P01', 'XX000', '23505'].map((code) => ({
    what: `fails with ${code}`,
    says: new RegExp(code),
    failures: 8,
    begin: () => failing(code),
    end: unfailing,
  })),
];

async function ail({ begin, end }: Condition): Promise<void> {
  heal = async () => {
    heal = async () => {};
    await end();
  };
  await begin();
  scene.simulator.world.applyChanges(50);
}

/** Begins a condition and waits until it has done its harm; gives what was logged since then. */
async function failed(condition: Condition): Promise<() => Line[]> {
  const { failures, says } = condition;
  const before = lines().length;
  await ail(condition);
  const since = () => lines().slice(before);
  const enough = () =>
    since().some((line) => (line.failures ?? 0) >= failures && says.test(line.error ?? ''));
  await waitFor(enough, { what: `${failures} failures with ${says}` }).catch((cause) => {
    throw new Error(`it says no such thing:\n${daemon.stderr}`, { cause });
  });
  return since;
}

describe.each(CONDITIONS)('a server that $what', (condition) => {
  const { failures } = condition;
  test('is waited out, without a flood of log lines, and a shutdown under it ends in time', async () => {
    await startDaemon();
    const [state] = await scene.query('select epoch from whatsapp.sync_state');
    const since = await failed(condition);
    const told = since();
    await condition.meanwhile?.();
    await heal();
    await scene.agreed('the daemon to go on by itself');
    // Each of the two that fail (the loop, the leases) tells once, then at every doubling, and never more quietly.
    for (const msg of ['turn failed', 'cannot renew leases']) {
      const own = told.filter((line) => line.msg === msg);
      const most = Math.max(1, ...own.map((line) => line.failures ?? 0));
      expect(own.length, daemon.stderr).toBeLessThanOrEqual(2 + Math.log2(most));
      const levels = own.map(({ level }) => ['info', 'warn', 'error'].indexOf(level));
      expect(levels, daemon.stderr).toEqual([...levels].sort());
    }
    const others = told.filter(({ msg }) => !['turn failed', 'cannot renew leases'].includes(msg));
    expect(others.length, daemon.stderr).toBeLessThanOrEqual(4);
    expect(await scene.query('select from whatsapp.quarantine')).toEqual([]);
    expect(await scene.query('select epoch from whatsapp.sync_state')).toEqual([{ epoch: state!.epoch }]);
    const gaps = await scene.query(`select from (select cursor_from,
        lag(cursor_to) over (order by page_id) as before from whatsapp.sync_pages) p where before <> cursor_from`);
    expect(gaps).toEqual([]);
    // Once more, for the end; what harms slowly is met on its first way.
    await (failures >= 4 ? failed({ ...condition, failures: 1 }) : ail(condition));
    await expectEndInTime();
  }, 60_000);
});

test('what goes on beside the loops, and hangs, has no time of its own at the end', async () => {
  expect(await runCommand(['migrate'], { DATABASE_URL: scene.url })).toMatchObject({ status: 0 });
  await scene.query('drop index whatsapp.messages_by_person');
  // An open write keeps the builder of an index waiting.
  const writer = await scene.connect();
  await writer.query(`begin; insert into whatsapp.messages (connection_id, message_id) values ('c', 'open')`);
  // Of the tests alone: a process writes that cache when it ends, which takes 0.3 s on a busy machine.
  await startDaemon({ NODE_DISABLE_COMPILE_CACHE: '1' });
  const building = () =>
    scene.query(`select from pg_stat_progress_create_index where datname = '${scene.name}'`);
  await waitFor(async () => (await building()).length > 0, { what: 'an index to be built' });
  scene.proxy.blackhole();
  await expectEndInTime();
});

test.each(['22P05', '54000'])('a row that Postgres refuses with %s is quarantined alone', async (code) => {
  await startDaemon();
  const connection = [...scene.simulator.world.connections.values()][0]!;
  const bad = connection.messages[3]!;
  await failing(code, `new.message_id = '${connection.messageId(bad.index)}'`);
  for (const message of connection.messages.slice(0, 40)) connection.editMessage(message, 'edited');
  const edited = () => scene.query("select from whatsapp.messages where body = 'edited'");
  await waitFor(async () => (await edited()).length === 39, { what: 'the others to be written' });
  const entries = await scene.query(
    'select kind, record_id, error_code from whatsapp.quarantine where resolved_at is null',
  );
  expect(entries).toEqual([
    { kind: 'message', record_id: connection.messageId(bad.index), error_code: code },
  ]);
  // A newer version that passes takes its place, and the entry is done with.
  await unfailing();
  connection.editMessage(bad, 'edited again');
  await scene.agreed('the good version');
  expect(await scene.query('select resolution from whatsapp.quarantine')).toEqual([
    { resolution: 'superseded' },
  ]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
});

test('an answer to COMMIT that is lost: the page is not written twice', async () => {
  await startDaemon({ LEASE_TTL: '3s' });
  // Long enough to be seen, and below the time-out of statements.
  await scene.query(`
    create function whatsapp.dawdle() returns trigger language plpgsql as
      $$ begin perform pg_sleep(1.2); return null; end $$;
    create constraint trigger dawdle after insert on whatsapp.sync_pages deferrable initially deferred
      for each row execute function whatsapp.dawdle()`);
  const [{ pages } = { pages: 0 }] = await scene.query(
    'select count(*)::integer as pages from whatsapp.sync_pages',
  );
  scene.simulator.world.applyChanges(5);
  const committing = () =>
    scene.query(
      `select from pg_stat_activity where datname = '${scene.name}' and query = 'commit' and state = 'active'`,
    );
  await waitFor(async () => (await committing()).length > 0, { what: 'the commit to begin' });
  scene.proxy.cut();
  await scene.agreed('the page');
  await daemon.logged('recovered');
  expect(await scene.query('select count(*)::integer as pages from whatsapp.sync_pages')).toEqual([
    { pages: pages + 1 },
  ]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
});
