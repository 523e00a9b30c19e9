import type { ConnectionId } from '../model.ts';

/** What can be asked for: an id is sent as a header and stored as a key, and one that cannot be, such as a text with
 * U+0000, is nobody's. Put among the others it would keep all of them from being stored. */
const ID = /^[\x20-\x7e]{1,1024}$/;

/**
 * The connections that an answer of `GET /v1/me` lists. Its shape is not documented, so they are looked for at
 * any depth: `connection_ids` or `connections`, with strings or with objects that have `id` or `connection_id`
 * (R21). Undefined where nothing of the kind is there.
 */
export function connectionsIn(me: unknown): ConnectionId[] | undefined {
  const found = new Set<ConnectionId>();
  let listed = false;
  const work: unknown[] = [me];
  for (let value = work.pop(); value !== undefined; value = work.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    for (const [name, child] of Object.entries(value)) {
      if ((name === 'connection_ids' || name === 'connections') && Array.isArray(child)) {
        listed = true;
        for (const element of child) {
          const id = idOf(element);
          if (id !== undefined) found.add(id);
        }
      } else {
        work.push(child);
      }
    }
  }
  return listed ? [...found].sort() : undefined;
}

function idOf(element: unknown): ConnectionId | undefined {
  const id =
    typeof element === 'object' && element !== null
      ? ((element as Record<string, unknown>).connection_id ?? (element as Record<string, unknown>).id)
      : element;
  return typeof id === 'string' && ID.test(id) ? id : undefined;
}
