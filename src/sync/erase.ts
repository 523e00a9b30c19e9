import { type Kysely, sql } from 'kysely';
import pRetry from 'p-retry';
import { sqlstate } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { countAlong, type Extra } from '../store/belongings.ts';
import { deleteLinks, holdLinks } from '../store/crm-links.ts';
import type { Db } from '../store/database.ts';
import { blankChanges, hasConsumers, type Told, tell } from '../store/erased-changes.ts';
import * as erasures from '../store/erasures.ts';
import type { Key } from '../store/keys.ts';
import { type Person, phonesOf } from '../store/person.ts';
import type { Database } from '../store/schema.ts';
import { lockStates } from '../store/state.ts';
import { keyFingerprints, renew, type Suppressed, suppress } from '../store/suppressions.ts';
import { BESIDE, inTransaction, limitLockWait, undoneWithoutUs } from '../store/transaction.ts';
import { type EraseOrder, ErasureRefused, find, hashesOf, scopeOf } from './erase-order.ts';
import { snapshotName } from './subjects.ts';
import { distinct, type Named, type Survey } from './survey.ts';

/** What an erasure removed: numbers alone. */
export type ErasureCounts = Readonly<
  Record<
    | 'contacts'
    | 'conversations'
    | 'messages'
    | 'tombstones'
    | 'mentions'
    | 'revisions'
    | 'reactions'
    | 'memberships'
    | 'quarantined'
    | 'attachments'
    | 'links',
    number
  >
>;

export interface Receipt {
  readonly id: string;
  readonly erasedAt: Date;
  readonly counts: ErasureCounts;
  /** Files of the archive that nothing refers to any more: to be removed now that it is committed. */
  readonly files: readonly string[];
}

/** What an erasure would do. */
export interface Foresight {
  readonly person: Person;
  readonly counts: ErasureCounts;
}

/**
 * What an erasure would remove. Locks nothing: until it is done, more may come.
 * @throws ErasureRefused where nobody like that is known, or who is meant is not clear.
 */
export async function foresee(db: Kysely<Database>, order: EraseOrder): Promise<Foresight> {
  const found = await find(db, order, await scopeOf(db, order));
  const { removed, blanked, memberships, reactions } = found;
  const { person } = found.scope;
  const along = await countAlong(db, [...removed, ...blanked], phonesFor(order, person));
  return { person, counts: countsOf(found, { ...along, memberships, reactions }) };
}

/** What is counted by the records themselves, and what goes along with them. */
function countsOf(found: Survey, along: Along): ErasureCounts {
  const { revisions, reactions, memberships, attachments, links } = along;
  return {
    contacts: found.contacts.length,
    conversations: found.chats.length,
    messages: found.removed.length,
    tombstones: found.blanked.length,
    mentions: found.redacted.length + found.extras.length,
    ...{ revisions, reactions, memberships },
    quarantined: found.letters.length + found.redactedLetters.length,
    ...{ attachments, links },
  };
}

type Along = Pick<ErasureCounts, 'revisions' | 'reactions' | 'memberships' | 'attachments' | 'links'>;

/** The numbers whose links go: the CRM's contacts have no connection. */
function phonesFor({ connectionId }: EraseOrder, { jids }: Person): string[] {
  return connectionId === undefined ? phonesOf(jids) : [];
}

/**
 * Removes a person's data, and keeps it from coming back (R20): one transaction, behind the locks of all state rows that
 * it concerns, so that no page is written meanwhile and each later one knows of it (R22).
 * It may meet a connection that is being renamed, which locks the same the other way round: where Postgres ends this one
 * of the two, it is done once more, and a second time.
 * @throws ErasureRefused as {@link foresee} does, and under another key than earlier ones; nothing is done then. What
 * Postgres throws, 55P03 where somebody else holds a lock for long.
 */
export async function erase(db: Kysely<Database>, order: EraseOrder): Promise<Receipt> {
  return await pRetry(() => eraseOnce(db, order), {
    retries: 2,
    minTimeout: 100,
    shouldRetry: ({ error }) => sqlstate(error) === DEADLOCK,
  });
}

const DEADLOCK = '40P01';

/** How long an erasure that holds up the pages waits for a lock that somebody else has, in milliseconds. */
const LOCK_PATIENCE = 60_000;

async function eraseOnce(db: Kysely<Database>, order: EraseOrder): Promise<Receipt> {
  return await inTransaction(db, BESIDE, async (trx) => {
    // A large one takes minutes, and holds up all pages: not for one that was killed.
    await undoneWithoutUs(trx);
    // Nobody links what the CRM has meanwhile: whoever does, waits, and then knows of this.
    await holdLinks(trx, order.schema);
    // No connection becomes known meanwhile: its pages would not know of this.
    await sql`lock table ${sql.table('connections')} in share mode`.execute(trx);
    // Behind the first of the locks, which all erasures take: of two at once, the later knows of the other's key.
    const fingerprints = await keyFingerprints(trx);
    if (fingerprints.some((one) => one !== order.key.fingerprint))
      throw new ErasureRefused('people were erased here under another ERASURE_KEY: restore that one');
    // From here on no page is written: not for as long as somebody else forgets to commit.
    await limitLockWait(trx, order.lockPatience ?? LOCK_PATIENCE);
    const connections = await lockStates(trx, await scopeOf(trx, order));
    return await remove(trx, order, await find(trx, order, connections));
  });
}

/** Does what the survey says. */
async function remove(trx: Db, order: EraseOrder, found: Survey): Promise<Receipt> {
  const { key, forever, changes, connectionId } = order;
  const { scope, contacts, chats, chatIds, removed, blanked, redacted, extras } = found;
  const named = [...contacts, ...[...removed, ...chatIds].filter((one) => one.named)];
  await blankChanges(trx, scope, named);
  const revisions =
    (await erasures.deleteMessages(trx, removed)) + (await erasures.deleteRevisions(trx, blanked));
  const { attachments, files } = await erasures.deleteAttachments(trx, [...removed, ...blanked]);
  await erasures.blankMessages(trx, blanked);
  await erasures.redactMessages(trx, redacted);
  await erasures.redactExtras(trx, extras);
  const reactions = await erasures.deleteReactions(trx, scope);
  await erasures.deleteChats(trx, chatIds);
  const left = await erasures.leaveGroups(trx, scope);
  await erasures.deleteContacts(trx, scope, contacts);
  const links = await deleteLinks(trx, phonesFor(order, scope.person));
  await erasures.deleteLetters(trx, found.letters);
  for (const { id, json, sha256 } of found.redactedLetters)
    await erasures.redactLetter(trx, id, json, sha256);
  await erasures.forgetPositions(trx, chatIds, removed);
  await tell(trx, await toldOf(trx, found, left), changes);
  const gone = { conversations: chats, contacts, messages: removed };
  await erasures.noteInState(trx, scope.connections, key.fingerprint, gone);
  const counts = countsOf(found, { revisions, reactions, memberships: left.length, attachments, links });
  const erasure = await erasures.addErasure(trx, connectionId, key.fingerprint, forever, counts);
  await renew(trx, erasure.id, connectionId, hashesOf(key, scope.person));
  await suppress(trx, erasure.id, suppressionsOf(order, found));
  return { ...erasure, counts, files };
}

function suppressionsOf({ key, connectionId }: EraseOrder, found: Survey): Suppressed[] {
  const { scope, chatIds, removed, blanked, snapshots } = found;
  const { jids, ids } = scope.person;
  const of = (where: ConnectionId | undefined, name: string, isRecord = false) => {
    return { connectionId: where, hash: key.hash(name), isRecord };
  };
  return [
    ...[...jids].map((jid) => of(connectionId, jid)),
    ...ids
      .filter((id) => scope.connections.includes(id.connectionId))
      .map((id) => of(id.connectionId, id.personId)),
    ...chatIds.map((chat) => of(chat.connectionId, chat.id)),
    ...[...removed, ...blanked].map((message) => of(message.connectionId, message.id, true)),
    ...snapshots.map((one) => of(one.connectionId, snapshotName(one), true)),
  ];
}

/** What the feed is told. An id that says whose the record is, is told only where somebody reads the feed and has to
 * forget it too. */
async function toldOf(trx: Db, found: Survey, left: readonly Key[]): Promise<Told[]> {
  const { contacts, chats, removed, blanked, redacted, extras } = found;
  const read = await hasConsumers(trx);
  const mayBeTold = ({ named }: Named) => read || !named;
  const extrasOf = (kind: Extra['kind']) => extras.filter((one) => one.kind === kind);
  const deleted = (kind: Told['kind'], keys: readonly Key[]) =>
    keys.map(({ connectionId, id }): Told => ({ connectionId, id, kind, op: 'deleted' }));
  const updated = (kind: Told['kind'], field: NonNullable<Told['field']>, keys: readonly Key[]) =>
    keys.map(({ connectionId, id }): Told => ({ connectionId, id, kind, op: 'updated', field }));
  return [
    ...deleted('message', [...removed.filter(mayBeTold), ...blanked]),
    ...redacted.flatMap((one) => updated('message', one.field, [one])),
    ...updated('conversation', 'participants', distinct([...left, ...extrasOf('participant')])),
    ...updated('conversation', 'extra', extrasOf('conversation')),
    ...updated('contact', 'extra', extrasOf('contact')),
    ...deleted('conversation', chats.filter(mayBeTold)),
    ...deleted('contact', read ? contacts : []),
  ];
}
