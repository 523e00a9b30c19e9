/** What the simulator's own tests share: a bare client, and a replica of three maps. */

import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { parseExact } from '../../src/simulator/truth.ts';

/** A clock that stands still: 2026-11-20T12:00:00Z. */
export const NOON = Date.UTC(2026, 10, 20, 12);

export type Exact = Record<string, unknown>;

export interface Page {
  readonly conversations: Exact[];
  readonly contacts: Exact[];
  readonly messages: Exact[];
  readonly cursor: bigint;
  readonly has_more: boolean;
}

export interface Got {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** A simulator of one small connection `conn_a`, unless told otherwise, that ends with the test. */
export async function small(
  onEnd: (end: () => Promise<void>) => void,
  options: Partial<SimulatorOptions> = {},
): Promise<Simulator> {
  const simulator = await startSimulator({
    connections: ['conn_a'],
    messages: 300,
    now: () => NOON,
    ...options,
  });
  onEnd(() => simulator.close());
  return simulator;
}

export async function get(
  { url }: { readonly url: string },
  path: string,
  connection?: string,
  key: string | null = DEFAULT_API_KEY,
): Promise<Got> {
  const headers: Record<string, string> = {};
  if (key !== null) headers.authorization = `Bearer ${key}`;
  if (connection !== undefined) headers['X-WhatsApp-Use-Connection-Id'] = connection;
  const answer = await fetch(url + path, { headers });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

export async function post(simulator: Simulator, name: string, body: object): Promise<Got> {
  const answer = await fetch(`${simulator.url}/__simulator/${name}`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

export async function syncPage(
  simulator: Simulator,
  cursor: bigint,
  limit: number,
  connection?: string,
): Promise<Page> {
  const { status, text } = await get(
    simulator,
    `/v1/whatsapp/sync?cursor=${cursor}&limit=${limit}`,
    connection,
  );
  if (status !== 200) throw new Error(`sync answered ${status}: ${text}`);
  return parseExact(text) as Page;
}

/** What a replica would hold: each record by kind and id, the newest by seq, contacts by arrival. */
export class Fold {
  readonly records = new Map<string, Exact>();
  cursor = 0n;

  add(page: Page): void {
    for (const contact of page.contacts) this.records.set(`contact ${contact.person_id}`, contact);
    for (const one of page.conversations) this.#newest(`conversation ${one.conversation_id}`, one);
    for (const one of page.messages) this.#newest(`message ${one.message_id}`, one);
    this.cursor = page.cursor;
  }

  /** Pages to the end. @returns how many pages. */
  async catchUp(simulator: Simulator, limit: number, connection?: string): Promise<number> {
    for (let pages = 1; ; pages++) {
      const page = await syncPage(simulator, this.cursor, limit, connection);
      const before = this.cursor;
      this.add(page);
      if (!page.has_more) return pages;
      if (page.cursor <= before) throw new Error('more to come, and the cursor stands still');
    }
  }

  #newest(name: string, record: Exact): void {
    const known = this.records.get(name);
    if (!known || (known.seq as bigint) <= (record.seq as bigint)) this.records.set(name, record);
  }
}

/** The truth in the form of a fold. */
export function truthOf(simulator: Simulator, connection: string, servedOnly = false): Map<string, Exact> {
  const records = new Map<string, Exact>();
  for (const { kind, id, record } of simulator.world.truth(connection, { servedOnly }))
    records.set(`${kind} ${id}`, record);
  return records;
}
