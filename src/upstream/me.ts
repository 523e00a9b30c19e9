import { type ConnectionId, isConnectionId } from '../model.ts';

/**
 * The connections that an answer of `GET /v1/me` lists. Its shape is not documented, so they are looked for at
 * any depth: `connection_ids` or `connections`, with strings or with objects that have `id` or `connection_id`
 * (R21). Undefined where nothing of the kind is there.
 * @param refused gets the texts that are listed as ids and can be none: not sendable as a header, or too long.
 */
export function connectionsIn(me: unknown, refused = new Set<string>()): ConnectionId[] | undefined {
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
          if (id === undefined) continue;
          // What cannot be one would keep all others from being stored, as a text with U+0000 does.
          if (isConnectionId(id)) found.add(id);
          else refused.add(id);
        }
      } else {
        work.push(child);
      }
    }
  }
  return listed ? [...found].sort() : undefined;
}

function idOf(element: unknown): string | undefined {
  const id =
    typeof element === 'object' && element !== null
      ? ((element as Record<string, unknown>).connection_id ?? (element as Record<string, unknown>).id)
      : element;
  return typeof id === 'string' && id !== '' ? id : undefined;
}
