import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { BenchDatabase } from './postgres.ts';
import type { Stage } from './stage.ts';

/** Where the time goes, from Node's sampling profiler and from pg_stat_statements (`--profile`). */

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

export interface SelfTimes {
  /** Milliseconds from the first turn to the last. */
  readonly span: number;
  /** Milliseconds by function and by part of the program, the greatest first. */
  readonly functions: readonly (readonly [name: string, ms: number])[];
  readonly parts: readonly (readonly [name: string, ms: number])[];
}

/** Self time between the first sample and the last that is within a turn: the start-up is not what is asked about. */
export function selfTimes(profile: CpuProfile): SelfTimes {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node.callFrame)]));
  const parts = new Map(profile.nodes.map((node) => [node.id, partOf(node.callFrame)]));
  const working = withinTurn(profile);
  const first = profile.samples.findIndex((id) => working.has(id));
  const last = profile.samples.findLastIndex((id) => working.has(id));
  const byName = new Map<string, number>();
  const byPart = new Map<string, number>();
  let span = 0;
  for (let i = Math.max(0, first); i <= last; i++) {
    const ms = (profile.timeDeltas[i] ?? 0) / 1000;
    const id = profile.samples[i]!;
    span += ms;
    byName.set(names.get(id)!, (byName.get(names.get(id)!) ?? 0) + ms);
    byPart.set(parts.get(id)!, (byPart.get(parts.get(id)!) ?? 0) + ms);
  }
  const sorted = (map: Map<string, number>) => [...map].sort(([, a], [, b]) => b - a);
  return { span, functions: sorted(byName), parts: sorted(byPart) };
}

/** The nodes whose function is of `src/sync`, with all that it calls. */
function withinTurn({ nodes }: CpuProfile): Set<number> {
  const found = new Set<number>();
  const children = new Map(nodes.map((node) => [node.id, node.children ?? []]));
  const take = (id: number) => {
    if (found.has(id)) return;
    found.add(id);
    for (const child of children.get(id)!) take(child);
  };
  for (const { id, callFrame } of nodes) {
    if (/\/src\/sync\/(?:turn|apply|normalise|write)\./.test(callFrame.url)) take(id);
  }
  return found;
}

type Frame = CpuProfile['nodes'][number]['callFrame'];

function nameOf({ functionName, url, lineNumber }: Frame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const place = /(?:node_modules|\/src)\/((?:.(?!node_modules\/))*)$/.exec(url)?.[1] ?? url;
  return `${name}  ${place}:${lineNumber + 1}`;
}

function partOf({ functionName, url }: Frame): string {
  if (url === '') return functionName.startsWith('(') ? functionName : '(builtin)';
  if (url.startsWith('node:')) return 'node';
  const own = /\/src\/(.*)\.[jt]s$/.exec(url)?.[1];
  if (own !== undefined && !/node_modules\/(?!\.cache)/.test(url)) return `src/${own}`;
  return /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? url;
}

/** Prints the profile that an ended daemon has left, where one was wanted. */
export function printDaemonProfile({ profileDir, note }: Stage, pid: number, label: string): void {
  if (profileDir === undefined) return;
  const file = readdirSync(profileDir).find((name) => name.split('.')[3] === String(pid));
  if (file === undefined) throw new Error(`process ${pid} has left no profile`);
  const { span, functions, parts } = selfTimes(
    JSON.parse(readFileSync(path.join(profileDir, file), 'utf8')) as CpuProfile,
  );
  const line = ([name, ms]: readonly [string, number]) =>
    `  ${((ms / span) * 100).toFixed(1).padStart(5)} %  ${String(Math.round(ms)).padStart(7)} ms  ${name}`;
  note(
    [
      `profile of the daemon: ${label}, ${Math.round(span)} ms (${path.join(profileDir, file)})`,
      ' by part:',
      ...parts.slice(0, 16).map(line),
      ' by function:',
      ...functions.slice(0, 30).map(line),
    ].join('\n'),
  );
}

/** Forgets what statements have cost so far. */
export async function resetStatements({ profileDir, postgres }: Stage): Promise<void> {
  if (profileDir === undefined) return;
  await postgres.query('create extension if not exists pg_stat_statements');
  await postgres.query('select pg_stat_statements_reset()');
}

/** Prints what the statements in a database have cost since the reset. */
export async function printStatements(
  { profileDir, postgres, note }: Stage,
  database: BenchDatabase,
  label: string,
): Promise<void> {
  if (profileDir === undefined) return;
  const rows = await postgres.query<{ line: string }>(
    `select format('%s ms exec, %s ms plan, %s calls, %s kB WAL, %s blocks dirtied  %s', round(total_exec_time),
        round(total_plan_time), calls, wal_bytes / 1024, shared_blks_dirtied,
        left(regexp_replace(query, '\\s+', ' ', 'g'), 110)) as line
      from pg_stat_statements where dbid = (select oid from pg_database where datname = $1)
      order by total_exec_time + total_plan_time desc limit 12`,
    [database.name],
  );
  note([`statements: ${label}`, ...rows.map(({ line }) => `  ${line}`)].join('\n'));
}
