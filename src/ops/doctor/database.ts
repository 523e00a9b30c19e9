import { type Kysely, sql } from 'kysely';
import { codeOf, sqlstate } from '../../errors/errors.ts';
import { remedy } from '../../errors/remedies.ts';
import { humanDuration } from '../../lib/durations.ts';
import { plural } from '../../lib/plural.ts';
import { readFeed } from '../../store/feed.ts';
import { type Hazard, hazards, waitingCommits } from '../../store/hazards.ts';
import { leftovers } from '../../store/mends.ts';
import { type SchemaVersion, schemaVersion } from '../../store/migrator.ts';
import { probeListen } from '../../store/notify.ts';
import { hidden } from '../../store/row-security.ts';
import { type Database, TABLES } from '../../store/schema.ts';
import { type ServerFacts, serverFacts, unfit } from '../../store/server.ts';
import { clockFinding, type Finding, notLookedAt, ok, problem, warning } from './finding.ts';

export interface DatabaseCheck {
  readonly db: Kysely<Database>;
  readonly schema: string;
  /** Undefined where its setting is refused: another place would tell nothing of it. */
  readonly listen: ListenCheck | undefined;
  /** CHANGES_RETENTION, in milliseconds. */
  readonly changesRetention: number;
}

export interface ListenCheck {
  /** Where LISTEN goes; `off`: nowhere. */
  readonly url: string | undefined;
  /** Whether that is LISTEN_DATABASE_URL. */
  readonly own: boolean;
}

const STANDBY_REMEDY =
  'start it, or as a superuser: ALTER SYSTEM SET synchronous_standby_names = …; SELECT pg_reload_conf();';

/** Checks reach, version, encoding, collation, durability, role, privileges, row-level security, schema, pooler and clock;
 * stops at what makes the rest pointless. */
export async function checkDatabase(check: DatabaseCheck): Promise<Finding[]> {
  const { db, schema } = check;
  const findings: Finding[] = [];
  const before = Date.now();
  let server: ServerFacts;
  try {
    server = await serverFacts(db);
  } catch (error) {
    const code = codeOf(error);
    return [problem(`database: not reachable (${code})`, remedy('database', code) ?? 'check DATABASE_URL')];
  }
  const after = Date.now();
  const wrong = unfit(server);
  findings.push(
    wrong === undefined
      ? ok(`database: reachable, PostgreSQL ${server.name}`)
      : problem(`database: ${wrong.what}`, wrong.remedy),
  );
  findings.push(...(await hazards(db)).map(hazardFinding));
  if ((await waitingCommits(db)) > 0) {
    findings.push(
      problem('database: commits wait for a synchronous standby that does not answer', STANDBY_REMEDY),
    );
  }
  if (server.readOnly) {
    findings.push(problem('database: read-only', remedy('database', '25006')!));
  }
  findings.push(clockFinding('the database', server.now.getTime(), [before, after]));
  findings.push(...(await checkPrivileges(db, schema)));
  const unseen = await hidden(db, schema);
  if (unseen !== undefined) findings.push(problem(`rows: ${unseen.what}`, unseen.remedy));
  const ofSchema = await checkSchema(db, schema);
  findings.push(...ofSchema);
  // Without their tables there is nothing to ask.
  if (ofSchema[0]?.level === 'ok')
    findings.push(...(await checkLeftovers(check)), ...(await checkConsumers(check)));
  findings.push(check.listen === undefined ? notLookedAt('listen') : await checkListen(db, check.listen));
  return findings;
}

/** Where rows may be there twice, that is wrong already. */
function hazardFinding({ of, what, remedy }: Hazard): Finding {
  return of === 'collation' ? problem(`collation: ${what}`, remedy) : warning(`durability: ${what}`, remedy);
}

async function checkPrivileges(db: Kysely<Database>, schema: string): Promise<Finding[]> {
  const { rows } = await sql<{
    role: string;
    database: string;
    there: boolean;
    usage: boolean;
    create: boolean;
  }>`
    select current_user as role, current_database() as database, n.oid is not null as there,
      coalesce(has_schema_privilege(n.oid, 'usage'), false) as usage,
      case when n.oid is null then has_database_privilege(current_database(), 'create')
        else has_schema_privilege(n.oid, 'create') end as create
    from (select 1) one left join pg_namespace n on n.nspname = ${schema}`.execute(db);
  const { role, database, there, usage, create } = rows[0]!;
  const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
  if (!there) {
    return [
      create
        ? ok(`privileges: ${role} may create the schema ${schema}`)
        : problem(
            `privileges: ${role} may not create the schema ${schema}`,
            `as an owner: GRANT CREATE ON DATABASE ${quoted(database)} TO ${quoted(role)};`,
          ),
    ];
  }
  if (!usage) {
    return [
      problem(
        `privileges: ${role} may not use the schema ${schema}`,
        `GRANT USAGE ON SCHEMA ${schema} TO ${quoted(role)};`,
      ),
    ];
  }
  const names = [...TABLES];
  const missing = await sql<{ table: string; privilege: string }>`
    select c.relname as table, p.privilege
    from pg_class c cross join unnest(array['select', 'insert', 'update', 'delete']) p (privilege)
    where c.relnamespace = ${schema}::regnamespace and c.relkind in ('r', 'p') and c.relname = any(${names}::text[])
      and (c.relname <> 'kysely_migration' or p.privilege = 'select')
      and not has_table_privilege(c.oid, p.privilege)
    order by 1, 2`.execute(db);
  if (missing.rows.length === 0) return [ok(`privileges: ${role} may read and write the tables`)];
  const lacking = [...new Set(missing.rows.map((row) => row.privilege.toUpperCase()))].join(', ');
  return [
    problem(
      `privileges: ${role} lacks ${lacking} on ${[...new Set(missing.rows.map((row) => row.table))].join(', ')}`,
      `GRANT ${lacking} ON ALL TABLES IN SCHEMA ${schema} TO ${quoted(role)};`,
    ),
  ];
}

async function checkSchema(db: Kysely<Database>, schema: string): Promise<Finding[]> {
  let version: SchemaVersion;
  try {
    version = await schemaVersion(db, schema);
  } catch (error) {
    // What may not be read was told of with the privileges.
    if (sqlstate(error) === '42501') return [];
    throw error;
  }
  const { database, program, pending, unknown } = version;
  if (unknown.length > 0) {
    const what = `schema: ${unknown.join(', ')} is newer than this program (${program})`;
    return [problem(what, 'run a newer wa-replica')];
  }
  if (pending.length === 0) return [ok(`schema: up to date (${program})`)];
  const migrations = pending.length === 1 ? '1 migration' : `${pending.length} migrations`;
  const what = `schema: ${migrations} pending, ${database === undefined ? 'none done yet' : `the last done is ${database}`}`;
  if (await mayMigrate(db, schema)) {
    return [warning(what, 'run `wa-replica migrate`, or let `run` do it')];
  }
  return [
    problem(`${what}; this role may not migrate`, 'run `wa-replica migrate` as the owner of the tables'),
  ];
}

/** Whether the role may change what is there, which takes the owner; a schema that is not there is told of elsewhere. */
async function mayMigrate(db: Kysely<Database>, schema: string): Promise<boolean> {
  const { rows } = await sql<{ may: boolean }>`
    select has_schema_privilege(n.oid, 'create') and not exists (
      select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p')
        and c.relname = any(${[...TABLES]}::text[]) and not pg_has_role(c.relowner, 'usage')) as may
    from pg_namespace n where n.nspname = ${schema}`.execute(db);
  return rows[0]?.may !== false;
}

/** What a copy or a renaming has left, which every start mends whose role may. */
async function checkLeftovers({ db, schema }: DatabaseCheck): Promise<Finding[]> {
  const found = await leftovers(db, schema).catch((error: unknown) => {
    // As above.
    if (sqlstate(error) === '42501') return [];
    throw error;
  });
  return found.map(({ what }) =>
    problem(`copied or renamed: ${what}`, 'run `wa-replica migrate` as the owner of the tables'),
  );
}

/** Consumers of the change feed that are, or soon will be, cut off from what they have not read. */
async function checkConsumers({ db, schema, changesRetention }: DatabaseCheck): Promise<Finding[]> {
  const { consumers } = await readFeed(db).catch((error: unknown) => {
    // As above.
    if (sqlstate(error) === '42501') return { consumers: [] };
    throw error;
  });
  return consumers.flatMap(({ consumer, lag, late }) => {
    const name = consumer.replace(/\p{C}/gu, '\uFFFD');
    const literal = `'${name.replaceAll("'", "''")}'`;
    if (late > 0) {
      return problem(
        `consumer ${name}: comes too late on ${plural(late, 'connection')}: changes that it has not read are gone`,
        `its next read names the connection: SELECT ${schema}.restart_consumer(${literal}, '…'); then read that one's tables anew`,
      );
    }
    const left = Math.max(0, changesRetention / 1000 - lag);
    if (left >= changesRetention / 2000) return [];
    return warning(
      `consumer ${name}: ${humanDuration(lag)} behind, and in ${humanDuration(left)} changes are pruned that it has not read`,
      `start what reads as it, or SELECT ${schema}.drop_consumer(${literal});`,
    );
  });
}

async function checkListen(db: Kysely<Database>, { url, own }: ListenCheck): Promise<Finding> {
  if (url === 'off') return ok('listen: off, wake-ups come with the next renewal');
  try {
    if (await probeListen(url, db)) return ok('listen: NOTIFY is heard');
    return own
      ? problem(
          'listen: NOTIFY is not heard: another database, or a pooler in transaction mode?',
          'LISTEN_DATABASE_URL must lead to the same database, past the pooler',
        )
      : problem(
          'listen: NOTIFY is not heard: a pooler in transaction mode?',
          'set LISTEN_DATABASE_URL to a URL past the pooler, or to off',
        );
  } catch (error) {
    const code = codeOf(error);
    const advice = own ? undefined : remedy('database', code);
    return problem(`listen: no connection (${code})`, advice ?? 'check LISTEN_DATABASE_URL');
  }
}
