import type { ErasureKey } from '../lib/erasure-key.ts';
import { identifier } from '../lib/identifiers.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from '../store/database.ts';
import { accountsAmong, allJids, everyNameOf, type Person, personIds } from '../store/person.ts';
import { hashesBeside } from '../store/suppressions.ts';
import { isEmpty, type Survey, survey } from './survey.ts';

/** Who is to be erased: by a phone JID, or by the upstream's id of a person. */
export type Who = { readonly jid: string } | { readonly personId: string };

export interface EraseOrder {
  readonly who: Who;
  /** Only there; everywhere where absent, on connections of later too. */
  readonly connectionId: ConnectionId | undefined;
  /** Nothing of the person is stored any more, what is of later neither. */
  readonly forever: boolean;
  readonly key: ErasureKey;
  /** Whether the change feed is told (CHANGES). */
  readonly changes: boolean;
  /** The schema of the tables. */
  readonly schema: string;
  /** How long it waits for a lock while no page can be written, in milliseconds; a minute where absent. */
  readonly lockPatience?: number;
}

/** Why an erasure is refused; holds nothing of the person. */
export class ErasureRefused extends Error {
  override name = 'ErasureRefused';
}

/** The connections that an order is for.
 * @throws ErasureRefused where the one that it names is not known. */
export async function scopeOf(db: Db, { connectionId }: EraseOrder): Promise<ConnectionId[]> {
  const rows = await db.selectFrom('sync_state').select('connection_id').execute();
  const all = rows.map((row) => row.connection_id);
  if (connectionId === undefined) return all;
  if (!all.includes(connectionId)) throw new ErasureRefused(`no connection ${connectionId} is known here`);
  return [connectionId];
}

/** Everything of whom an order names.
 * @throws ErasureRefused where nobody like that is known, or who is meant is not clear. */
export async function find(db: Db, order: EraseOrder, connections: readonly ConnectionId[]): Promise<Survey> {
  const { key, forever } = order;
  const first = await identify(db, order);
  let person = await everyNameOf(db, first);
  const asked = 'personId' in order.who ? [key.hash(order.who.personId)] : [];
  const before = await hashesBeside(db, [...asked, ...hashesOf(key, person)]);
  if (before.size > 0) {
    // What was learned of the person since an earlier erasure is here as hashes alone.
    const jids = new Set(person.jids);
    for await (const some of allJids(db)) {
      for (const jid of some) if (before.has(key.hash(jid).toString('hex'))) jids.add(identifier(jid));
    }
    person = await everyNameOf(db, { ...person, jids });
  }
  const own = await accountsAmong(db, person.jids);
  if (own.length > 0) throw new ErasureRefused(`this is the account of ${own.join(', ')} itself`);
  const found = await survey(db, { person, connections });
  if (isEmpty(found) && before.size === 0) {
    if (person.jids.size === 0) throw new ErasureRefused('nobody with this id is known here');
    if (!forever) {
      throw new ErasureRefused(
        'nobody with this number is known here; with --forever, nothing of them will be stored',
      );
    }
  }
  return found;
}

/** Whom the order names. */
async function identify(db: Db, { who, connectionId }: EraseOrder): Promise<Person> {
  if ('jid' in who) return { jids: new Set([who.jid]), ids: [] };
  const ids = await personIds(db, who.personId, connectionId);
  const [one, ...others] = ids;
  if (one === undefined) return { jids: new Set(), ids: [] };
  const { ids: same } = await everyNameOf(db, { jids: new Set(), ids: [one] });
  const isSame = (id: typeof one) =>
    same.some((known) => known.connectionId === id.connectionId && known.personId === id.personId);
  if (!others.every(isSame)) {
    const on = ids.map((id) => id.connectionId).join(', ');
    throw new ErasureRefused(`this id is somebody else on each of ${on}: add --connection, or give --phone`);
  }
  return { jids: new Set(), ids };
}

/** The hashes of all that names a person. */
export function hashesOf(key: ErasureKey, { jids, ids }: Person): Buffer[] {
  return [...jids, ...ids.map(({ personId }) => personId)].map((name) => key.hash(name));
}
