import { Command, Option } from 'commander';
import { humanDuration } from '../lib/durations.ts';
import { plural } from '../lib/plural.ts';
import { unlessAborted } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { troubleLog } from '../ops/event-log.ts';
import type { Replica } from '../replica/replica.ts';
import { requireErasureKey } from '../replica/writing.ts';
import { knownConnections } from '../store/connections.ts';
import { checkLedger, type LedgerProblem } from '../store/ledger.ts';
import { requireCurrentSchema } from '../store/migrator.ts';
import { type CountsByKind, sums } from '../store/verifications.ts';
import type { VerifyProgress, VerifyResult } from '../verify/context.ts';
import { verify } from '../verify/verification.ts';
import { assumeNamed, connectionOption } from './connection-option.ts';
import { endOfGrace } from './ending.ts';
import { momentOf } from './moment.ts';
import { withReplica } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';
import { verifyContext } from './verifying.ts';

interface Options {
  readonly connection?: string[];
  readonly since?: Date;
  readonly repair?: true;
  readonly offline?: true;
  readonly json?: true;
}

/** How long a verification may go on after the signal, in milliseconds: it notes its place, unless it waits for a lock. */
const PATIENCE = 2_000;

/** What was found of one connection. */
interface Finding {
  readonly connectionId: ConnectionId;
  readonly ledger: readonly LedgerProblem[];
  /** Undefined with `--offline`. */
  readonly result: VerifyResult | undefined;
}

/** `wa-replica verify`: compares the replica with what the upstream serves now. */
export function verifyCommand(terminal: Terminal): Command {
  return new Command('verify')
    .description(
      'catches up, compares the tables with what the upstream serves, and checks the ledger; exits 1 while anything differs',
    )
    .addOption(connectionOption())
    .option(
      '--since <time>',
      'go back in a conversation no further than that: a duration such as 7d, or a date',
      momentOf,
    )
    .option('--repair', 'mend what differs, by the ordinary way of writing')
    .addOption(
      new Option('--offline', 'only the ledger and the counts, from the database alone').conflicts([
        'repair',
        'since',
      ]),
    )
    .option('--json', 'as JSON, for programs')
    .addHelpText(
      'after',
      `
It asks the upstream VERIFY_RATE times a second for each key, at most, and for a conversation once or more, with --since
too: raise that for a quick look.

missing, older and different rows are drift, which --repair mends. So are conflicting ones, which claim a newer version
than the upstream serves, with other content: which of the two is right is yours to say, see docs/operations.md. Rows
that it serves no more are counted and left alone, and so are those that are as it serves them, but for a newer version
("ahead").`,
    )
    .action(async (options: Options) => {
      const offline = options.offline === true;
      const ends = offline ? ('soon' as const) : ('drained' as const);
      await withReplica(terminal, { needsUpstream: !offline, ends, listen: troubleLog }, async (replica) => {
        const { signal } = terminal;
        const connections = await unlessAborted(begin(replica, options, offline, signal), signal);
        const findings = offline
          ? await offlineFindings(replica, connections)
          : await findingsOf(terminal, replica, connections, options);
        report(terminal, findings, options.json === true);
      });
    });
}

/** Looks that it can be done, and of which connections. */
async function begin(
  replica: Replica,
  { connection: wanted = [] }: Options,
  offline: boolean,
  signal: AbortSignal,
): Promise<readonly ConnectionId[]> {
  await requireCurrentSchema(replica.db, replica.settings.WA_REPLICA_SCHEMA);
  if (!offline) await requireErasureKey(replica);
  const known = await knownConnections(replica.db);
  const strange = wanted.find((id) => !known.some((one) => one.connectionId === id));
  if (strange !== undefined) throw new CommandFailed(`no connection ${strange} is known here`);
  if (wanted.length > 0) {
    if (!offline) await assumeNamed(replica, wanted, signal);
    return wanted;
  }
  if (offline) return known.map((one) => one.connectionId);
  await replica.discovery.look(signal);
  return [...replica.directory.connections].sort();
}

async function offlineFindings(
  { maintenance }: Replica,
  connections: readonly ConnectionId[],
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const connectionId of connections) {
    findings.push({ connectionId, ledger: await checkLedger(maintenance, connectionId), result: undefined });
  }
  return findings;
}

async function findingsOf(
  { stderr, signal }: Terminal,
  replica: Replica,
  connections: readonly ConnectionId[],
  { repair = false, since }: { repair?: boolean; since?: Date },
): Promise<Finding[]> {
  const context = verifyContext(replica);
  const findings: Finding[] = [];
  const done = new AbortController();
  const late = endOfGrace(signal, PATIENCE, done.signal);
  replica.worker.start();
  try {
    for (const connectionId of connections) {
      signal.throwIfAborted();
      const show = progressOn(stderr, connectionId);
      const order = { cause: 'command' as const, repair, since, onProgress: show.progress };
      const result = await unlessAborted(verify(context, connectionId, order, signal), late);
      show.end();
      findings.push({ connectionId, ledger: result.ledger, result });
    }
  } finally {
    done.abort();
    await replica.worker.stop();
  }
  return findings;
}

/** How often a line of progress is written where there is no terminal, in milliseconds. */
const LINE_EVERY = 5_000;

/** One line on a terminal, which is written over; elsewhere a line now and then. */
function progressOn(
  stream: NodeJS.WriteStream,
  connectionId: ConnectionId,
): { progress: (progress: VerifyProgress) => void; end: () => void } {
  const begun = performance.now();
  let told = begun;
  return {
    progress({ conversations, ofConversations, requests, counts }) {
      const now = performance.now();
      if (!stream.isTTY && now - told < LINE_EVERY) return;
      told = now;
      const { checked, drift } = sums(counts);
      const took = humanDuration((now - begun) / 1000);
      const done = `${conversations}/${ofConversations} conversations, ${plural(checked, 'record')}`;
      const line = `${connectionId}: ${done}, ${plural(requests, 'request')}, ${drift} differ, ${took}`;
      // One that is as wide as the terminal would go on in the next, and leave itself behind.
      const shown = line.slice(0, Math.max(0, (stream.columns || 80) - 1));
      stream.write(stream.isTTY ? `\r\u001b[K${shown}` : `${line}\n`);
    },
    end() {
      if (stream.isTTY) stream.write('\r\u001b[K');
    },
  };
}

/** Prints what was found.
 * @throws CommandFailed while anything differs, or could not be compared. */
function report({ stdout }: Terminal, findings: readonly Finding[], json: boolean): void {
  let remaining = 0;
  let failed = 0;
  let problems = 0;
  for (const { result, ledger } of findings) {
    remaining += result === undefined ? 0 : sums(result.counts).remaining;
    if (result !== undefined && result.state !== 'finished') failed++;
    problems += ledger.length;
  }
  if (json) stdout.write(`${JSON.stringify({ remaining, connections: findings.map(toJson) })}\n`);
  else for (const finding of findings) stdout.write(describe(finding));
  if (failed > 0)
    throw new CommandFailed(`${failed} of ${plural(findings.length, 'connection')} could not be verified`);
  if (remaining + problems > 0)
    throw new CommandFailed(
      `${plural(remaining, 'difference')}, ${plural(problems, 'problem')} in the ledger`,
    );
}

function toJson({ connectionId, ledger, result }: Finding): object {
  const error = result?.error;
  return {
    connection_id: connectionId,
    ledger,
    ...(result === undefined
      ? {}
      : { state: result.state, requests: result.requests, counts: result.counts, ...sums(result.counts) }),
    ...(error === undefined ? {} : { error_kind: error.kind, error: error.message }),
  };
}

function describe({ connectionId, ledger, result }: Finding): string {
  const lines: string[] = [];
  if (result === undefined)
    lines.push(ledger.length === 0 ? 'the ledger is whole' : 'the ledger is not whole');
  else {
    const { checked, drift, mended } = sums(result.counts);
    const none = checked === 0 && result.state !== 'finished' ? 'nothing is known' : 'nothing differs';
    const found = drift === 0 ? none : `${drift} differ, ${mended} mended`;
    const end = result.state === 'finished' ? '' : ` (${result.state} before the end)`;
    lines.push(
      `${plural(checked, 'record')} compared in ${plural(result.requests, 'request')}: ${found}${end}`,
    );
    lines.push(...kinds(result.counts));
    if (Object.values(result.counts).some(({ conflicting }) => conflicting > 0)) lines.push(CONFLICTING);
    if (result.error !== undefined) {
      lines.push(`  ${result.error.kind}: ${result.error.message}`);
      if (result.error.hint !== undefined) lines.push(`  ${result.error.hint}`);
    }
  }
  for (const { code, detail } of ledger) lines.push(`  ledger: ${code}: ${detail}`);
  return `${connectionId}: ${lines.join('\n')}\n`;
}

const CONFLICTING =
  '  conflicting rows claim a newer version than the upstream serves, and no repair decides that: see docs/operations.md';

/** What is not as it should be, or worth knowing, kind by kind. */
function kinds(counts: CountsByKind): string[] {
  return Object.entries(counts).flatMap(([kind, { checked: _, ...rest }]) => {
    const parts = Object.entries(rest).filter(([, count]) => count > 0);
    if (parts.length === 0) return [];
    const named = parts.map(([what, count]) => `${count} ${what.replace('not_served', 'no longer served')}`);
    return [`  ${kind}s: ${named.join(', ')}`];
  });
}
