import { type ConnectionId, isConnectionId } from '../model.ts';

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
  // What cannot be one would keep all others from being stored, as a text with U+0000 does.
  return typeof id === 'string' && isConnectionId(id) ? id : undefined;
}
