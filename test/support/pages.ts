import type { Kysely } from 'kysely';
import { ensureConnections } from '../../src/store/connections.ts';
import type { Database } from '../../src/store/schema.ts';
import { readPosition } from '../../src/store/state.ts';
import { type Applied, type ApplyContext, type ApplyPlan, apply } from '../../src/sync/apply.ts';
import { pack } from '../../src/sync/packing.ts';
import { parsePage } from '../../src/upstream/page.ts';

export const CONNECTION = 'conn_test';

/** A sync answer; `seq` and the like may be raw JSON texts by {@link raw}. */
export interface Answer {
  readonly cursor: number | bigint;
  readonly has_more?: boolean;
  readonly conversations?: readonly unknown[];
  readonly contacts?: readonly unknown[];
  readonly messages?: readonly unknown[];
}

/** The body of an answer; bigints become JSON integers. */
export function bodyOf(answer: Answer): Buffer {
  const text = JSON.stringify(answer, (_, value: unknown) =>
    typeof value === 'bigint' ? JSON.rawJSON(value.toString()) : value,
  );
  return Buffer.from(text);
}

export function contextOf(db: Kysely<Database>, changes: Partial<ApplyContext> = {}): ApplyContext {
  return {
    db,
    worker: 'test',
    leaseTtl: 30_000,
    window: 30 * 86_400_000,
    limits: { statementTimeout: 20_000, idleTimeout: 20_000 },
    history: { on: true, deletedMessages: 'keep' },
    changes: true,
    forgetting: { key: undefined, retain: undefined },
    media: false,
    reached: () => {},
    ...changes,
  };
}

/** Writes an answer as the daemon does, at whatever position is stored. */
export async function applyAnswer(
  db: Kysely<Database>,
  answer: Answer | Buffer,
  changes: Partial<ApplyContext> = {},
  connection: string = CONNECTION,
  plan: Partial<ApplyPlan> = {},
): Promise<Extract<Applied, { done: true }>> {
  await ensureConnections(db, [connection]);
  const at = (await readPosition(db, connection))!;
  const page = parsePage(Buffer.isBuffer(answer) ? answer : bodyOf(answer), at.cursor);
  const timing = { requestedAt: performance.now(), nextPollIn: () => 1000, ...plan };
  const applied = await apply(contextOf(db, changes), connection, at, page, pack(page).changes, timing);
  if (!applied.done) throw new Error('the page was fenced');
  return applied;
}
