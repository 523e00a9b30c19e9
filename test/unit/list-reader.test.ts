/** How a verification asks for lists: how often, how much at a time, and what it holds meanwhile. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { Admission } from '../../src/sync/admission.ts';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';
import { Lists } from '../../src/upstream/lists.ts';
import { VerifyPace } from '../../src/verify/pace.ts';
import { ListReader } from '../../src/verify/reader.ts';
import { waitFor } from '../support/wait.ts';

const ID = 'c';
/** Bytes: of an answer at most, and of all of them together. */
const MOST = 200_000;
const BUDGET = 4 * MOST;
const { signal } = new AbortController();
const key = fixedKey('key');

class CountingPace extends VerifyPace {
  turns = 0;
  override async turn(...of: Parameters<VerifyPace['turn']>): Promise<void> {
    this.turns++;
    await super.turn(...of);
  }
}

let server: Server;
let upstream: UpstreamClient;
let admission: Admission;
let pace: CountingPace;
/** What the next requests are answered with; the last goes on. */
let answers: ((answer: ServerResponse) => void)[];
/** The `limit` of each request. */
let limits: (number | undefined)[];

beforeAll(async () => {
  server = createServer(({ url }, answer) => {
    const limit = new URL(url!, 'http://here').searchParams.get('limit');
    limits.push(limit === null ? undefined : Number(limit));
    (answers.length > 1 ? answers.shift()! : answers[0]!)(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => void server.close());
const client = (requestTimeout: number) =>
  new UpstreamClient({
    baseUrl: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    ...{ requestTimeout, maxSockets: 2, userAgent: 'test' },
  });
const backoff = { min: 1, max: 2 };
beforeEach(() => {
  upstream = client(30_000);
  const rate = Number.POSITIVE_INFINITY;
  admission = new Admission({ concurrency: 1, rate, budget: BUDGET, backoff, keyOf: () => key });
  pace = new CountingPace(1_000);
  limits = [];
});
afterEach(async () => {
  // Whatever became of it, it holds nothing.
  await admission.ask('another', BUDGET, AbortSignal.timeout(20_000), async () => {});
  await upstream.close();
});

/** With a limit of 4, and no answer before. */
const reader = ({ pageLimit = 4, of = upstream, bounds = backoff } = {}) =>
  new ListReader(
    {
      ...{ lists: new Lists(of), admission, pace, keyOf: () => key, backoff: bounds },
      ...{ pageLimit, pageLimitMax: pageLimit, maxResponseBytes: MOST },
    },
    ID,
    100,
  );
const status =
  (code: number, headers = {}) =>
  (answer: ServerResponse) =>
    void answer.writeHead(code, headers).end('{"error":"no"}');
/** An answer of so many bytes, with more behind it. */
const list =
  (bytes = 100) =>
  (answer: ServerResponse) => {
    const body = '{"items":[],"messages":[{}],"has_more":true}';
    answer.end(body.padEnd(bytes));
  };

test('a list that is not paged may be three times as large as a page, and no more', async () => {
  const read = reader();
  answers = [list(3 * MOST)];
  const { list: whole, release } = await read.contacts(signal);
  expect(whole.bytes).toBe(3 * MOST);
  // Until it is compared it is in memory. Meanwhile a page may be waited for.
  const ask = (bytes: number) => admission.ask('another', bytes, AbortSignal.timeout(50), async () => {});
  await expect(ask(MOST + 1)).rejects.toThrow();
  await admission.ask('another', MOST, signal, async () => {});
  release();
  answers = [list(3 * MOST + 1)];
  await expect(read.conversations(signal)).rejects.toMatchObject({ kind: 'oversize' });
  expect([read.requests, pace.turns]).toEqual([102, 2]);
});

test('a page that is too large is asked for in halves, down to one record, which may be larger', async () => {
  answers = [list(MOST + 1)];
  const { list: page, release } = await reader().messages('chat', undefined, signal);
  release();
  expect(page.bytes).toBe(MOST + 1);
  expect(limits).toEqual([4, 2, 1]);
  answers = [list(3 * MOST + 1)];
  await expect(reader().messages('chat', undefined, signal)).rejects.toMatchObject({ kind: 'oversize' });
  expect(limits.slice(3)).toEqual([4, 2, 1]);
});

test('lists that are held together leave room for a page', async () => {
  const sizes = [1.5 * MOST, 1.5 * MOST + 1, 1.5 * MOST].map((bytes) => list(bytes));
  answers = [sizes[0]!, ...Array(5).fill(sizes[1]!), sizes[2]!];
  const first = await reader().contacts(signal);
  await expect(reader().contacts(signal)).rejects.toMatchObject({ code: 'budget_full' });
  const second = await reader().contacts(signal);
  await admission.ask('another', MOST, signal, async () => {});
  first.release();
  second.release();
});

test('a page that takes too long is asked for in halves; a whole list again as it is', async () => {
  const hasty = client(300);
  answers = [() => {}, list()];
  try {
    (await reader({ of: hasty }).messages('chat', undefined, signal)).release();
    expect(limits.slice(0, 2)).toEqual([4, 2]);
    answers = [() => {}, list()];
    (await reader({ of: hasty }).contacts(signal)).release();
  } finally {
    await hasty.close();
  }
});

test('a refused limit is halved, and what passes is the bound of its key; of what is refused for itself nothing stays', async () => {
  answers = [status(400), list()];
  (await reader({ pageLimit: 400 }).messages('chat', undefined, signal)).release();
  expect([limits, admission.capOf(ID).most]).toEqual([[400, 200], 200]);
  answers = [status(400)];
  const read = reader({ pageLimit: 400 });
  await expect(read.messages('chat', undefined, signal)).rejects.toMatchObject({ kind: 'bad_request' });
  answers = [list()];
  (await read.messages('chat', undefined, signal)).release();
  expect(limits.slice(2)).toEqual([200, 100, 50, 200]);
  expect(admission.capOf(ID).most).toBe(200);
});

test('after ten good pages more is asked for again', async () => {
  const read = reader();
  answers = [list(MOST + 1), list()];
  for (let pages = 0; pages < 11; pages++) (await read.messages('chat', undefined, signal)).release();
  expect(limits).toEqual([4, ...Array(10).fill(2), 4]);
});

test('what passes is tried again, five times at most; what does not is not', async () => {
  answers = [status(503), status(500), status(429), status(503), list()];
  const read = reader();
  (await read.contacts(signal)).release();
  expect([read.requests, pace.turns]).toEqual([105, 5]);
  answers = [status(503)];
  await expect(read.contacts(signal)).rejects.toMatchObject({ kind: 'not_ready' });
  expect(read.requests).toBe(110);
  answers = [status(402)];
  await expect(read.contacts(signal)).rejects.toMatchObject({ kind: 'payment_required' });
  expect(read.requests).toBe(111);
});

test('where there is no memory for it, it is asked for again as it was', async () => {
  const held = await admission.request('another', BUDGET - 70_000, signal, async (_, all) => all);
  answers = [
    list(MOST),
    (answer) => {
      held.release();
      list(MOST)(answer);
    },
  ];
  (await reader().messages('chat', undefined, signal)).release();
  expect(limits).toEqual([4, 4]);
});

test('a live request that comes later goes first', async () => {
  const order: string[] = [];
  answers = [
    (answer) => {
      order.push('list');
      list()(answer);
    },
  ];
  const { promise, resolve } = Promise.withResolvers<void>();
  const inHand = admission.ask('one', 1, signal, () => promise);
  const behind = reader().contacts(signal);
  await waitFor(() => pace.turns === 1, { what: 'the list to be asked for' });
  await new Promise((then) => setImmediate(then));
  const live = admission.ask('two', 1, signal, async () => void order.push('live'));
  resolve();
  (await behind).release();
  await Promise.all([inHand, live]);
  expect(order).toEqual(['live', 'list']);
});

test('the upstream is not asked again before it says', async () => {
  const at: number[] = [];
  const asked = (then: (answer: ServerResponse) => void) => (answer: ServerResponse) => {
    at.push(performance.now());
    then(answer);
  };
  answers = [asked(status(503, { 'retry-after': '1' })), asked(list())];
  // Four times the longest pause, at most.
  (await reader({ bounds: { min: 1, max: 50 } }).contacts(signal)).release();
  expect(at[1]! - at[0]!).toBeGreaterThan(190);
});

test('whoever is told to end does not wait for the next attempt', async () => {
  const stop = new AbortController();
  const read = reader({ bounds: { min: 1, max: 3_600_000 } });
  answers = [
    (answer) => {
      status(503, { 'retry-after': '3600' })(answer);
      answer.once('close', () => setImmediate(() => stop.abort(new Error('ends'))));
    },
  ];
  await expect(read.contacts(stop.signal)).rejects.toThrow('ends');
  expect(read.requests).toBe(101);
});
