import { describe, expect, test } from 'vitest';
import type { History } from '../../src/store/revisions.ts';
import { lockState, readPosition, startEpoch } from '../../src/store/state.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';
import { Bench, type Lists } from './raw-pages.ts';

/* What `newest-wins.test.ts` does not say of message_revisions yet. */

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);

const KEEP: History = { on: true, deletedMessages: 'keep' };
const REDACT: History = { on: true, deletedMessages: 'redact' };
const DELETED = '2026-11-02T00:00:00Z';
const TIMED = { conversation_id: undefined, body: null, sent_at: '2026-11-01T00:00:00Z' };

let made = 0;
/** A maker of one message's versions: each later than the one before. */
function message(base: object = {}) {
  const message_id = `m${++made}`;
  let seq = 9_007_199_254_740_992n;
  const version = (fields: object = {}) => {
    seq++;
    return { message_id, conversation_id: 'c', content_type: 'text', body: 'text', seq, ...base, ...fields };
  };
  return { message_id, version, last: () => seq };
}
const bring = (record: object, history = KEEP) => bench.bring({ messages: [record] }, { history });
const revisionsOf = (id: string, columns = 'revision, content_type, body, media, seq') =>
  bench.query<Record<string, unknown>>(
    `select ${columns} from whatsapp.message_revisions where message_id = $1 order by revision`,
    id,
  );
const bodies = async (id: string) => (await revisionsOf(id)).map(({ body }) => body);

describe('what makes a revision: another body, type, media or deletion', () => {
  test.each<[name: string, before: object, after: object, made: boolean]>([
    ['body', { body: 'a' }, { body: 'b' }, true],
    ['body that goes', { body: 'a' }, { body: null }, true],
    ['body that comes', { body: null }, { body: 'b' }, true],
    ['type', { content_type: 'image' }, { content_type: 'video' }, true],
    [
      'type, where all else that is known is a time',
      { ...TIMED, content_type: 'image' },
      { ...TIMED, content_type: 'video' },
      true,
    ],
    ['media', { media: { n: 9007199254740992n } }, { media: { n: 9007199254740993n } }, true],
    ['media that go', { media: { a: 1 } }, {}, true],
    ['deletion', {}, { deleted_at: DELETED }, true],
    ['deletion taken back', { deleted_at: DELETED }, {}, true],
    ['status', { status: 'sent' }, { status: 'read' }, false],
    ['reactions', { reactions: {} }, { reactions: { a: '👍' } }, false],
    ['time of an edit alone', {}, { edited_at: DELETED }, false],
    ['unknown field', { x: 1 }, { x: 2 }, false],
    ['media written otherwise', { media: { a: 1, b: [1.5] } }, { media: { b: [1.5], a: 1 } }, false],
  ])('%s', async (_, before, after, makes) => {
    const { message_id, version } = message();
    const first = version(before);
    await bring(first);
    await bring(version(after));
    const kept = await revisionsOf(
      message_id,
      'revision, content_type, body, media::text as media, seq::text as seq, deleted_at',
    );
    const { content_type, body, media, seq, deleted_at } = first as Record<string, unknown>;
    const was = {
      ...{ revision: 1, content_type, body, seq: String(seq) },
      media:
        media === undefined
          ? null
          : JSON.stringify(media, (__, n) =>
              typeof n === 'bigint' ? JSON.rawJSON(String(n)) : n,
            ).replaceAll(':', ': '),
      deleted_at: deleted_at === undefined ? null : new Date(DELETED),
    };
    expect(kept).toEqual(makes ? [was] : []);
  });

  test('another content at an equal seq is a replaced version too', async () => {
    const { message_id, version } = message();
    const first = version({ body: 'a' });
    await bring(first);
    await bring({ ...first, body: 'amended' });
    await bring({ ...first, body: 'amended again' });
    expect(await revisionsOf(message_id, 'revision, body, seq')).toEqual([
      { revision: 1, body: 'a', seq: String(first.seq) },
      { revision: 2, body: 'amended', seq: String(first.seq) },
    ]);
  });

  test('every version of a page that is replaced on the way, but not one of an equal seq', async () => {
    const { message_id, version } = message();
    const [a, b, c] = [version({ body: 'a' }), version({ body: 'b' }), version({ body: 'c' })];
    await bench.bring({ messages: [c, { ...b, body: 'not the last of its seq' }, a, b] });
    expect(await bodies(message_id)).toEqual(['a', 'b']);
  });

  test('a stale record replaces nothing; a whole one completes a partial one', async () => {
    const { message_id, version } = message();
    const [old, whole] = [version({ body: 'old' }), version({ body: 'whole' })];
    await bring({ message_id, seq: whole.seq + 1n, status: 'read', content_type: 'image' });
    await bring(whole);
    await bring(old);
    expect(await revisionsOf(message_id)).toEqual([]);
    expect(await bench.query('select body from whatsapp.messages where message_id = $1', message_id)).toEqual(
      [{ body: 'whole' }],
    );
  });

  test('the body or the media of a partial record are kept when a whole one replaces it', async () => {
    const { message_id, version } = message();
    await bring({ message_id, seq: 1n, body: 'of the stub' });
    await bring(version({ body: 'whole' }));
    expect(await bodies(message_id)).toEqual(['of the stub']);
    const other = message();
    await bring({ message_id: other.message_id, seq: 1n, media: { of: 'the stub' } });
    await bring(other.version());
    expect(await revisionsOf(other.message_id, 'media')).toEqual([{ media: { of: 'the stub' } }]);
  });

  test('a new numbering alone makes none; another text does, with the numbering it had', async () => {
    const [same, other] = [message(), message()];
    await bench.bring({ messages: [same.version(), other.version()] });
    await bench.db.transaction().execute(async (trx) => {
      await lockState(trx, CONNECTION);
      await startEpoch(trx, CONNECTION, 'reset', true);
    });
    const { numbering } = (await readPosition(bench.db, CONNECTION))!;
    await bench.bring({
      messages: [
        { ...same.version(), seq: 1 },
        { ...other.version({ body: 'new' }), seq: 2 },
      ],
    });
    expect(await revisionsOf(same.message_id)).toEqual([]);
    expect(await revisionsOf(other.message_id, 'body, numbering, seq')).toEqual([
      { body: 'text', numbering: numbering - 1, seq: String(other.last() - 1n) },
    ]);
  });
});

describe('when it held', () => {
  test('from the one before to the one after, whatever receipts came between', async () => {
    const { message_id, version } = message();
    const bodiesInTurn = ['a', 'a', 'b', 'b', 'b', 'c', 'd'];
    for (const [n, body] of bodiesInTurn.entries()) await bring(version({ body, status: `s${n}` }));
    const kept = await bench.query<{ body: string; held_from: string; held_until: string }>(
      'select body, held_from::text, held_until::text from whatsapp.message_revisions where message_id = $1 order by revision',
      message_id,
    );
    const [row] = await bench.query<{ first: string; last: string }>(
      'select first_synced_at::text as first, synced_at::text as last from whatsapp.messages where message_id = $1',
      message_id,
    );
    expect(kept.map(({ body }) => body)).toEqual(['a', 'b', 'c']);
    expect(kept.map(({ held_from }) => held_from)).toEqual([
      row!.first,
      kept[0]!.held_until,
      kept[1]!.held_until,
    ]);
    expect(kept[2]!.held_until).toBe(row!.last);
    for (const { held_from, held_until } of kept) expect(held_from < held_until).toBe(true);
  });

  test('each message counts its own', async () => {
    const [one, other] = [message(), message()];
    for (const body of ['a', 'b', 'c'])
      await bench.bring({
        messages: [one.version({ body }), ...(body === 'b' ? [] : [other.version({ body })])],
      });
    const numbers = async (id: string) => (await revisionsOf(id)).map(({ revision }) => revision);
    expect([await numbers(one.message_id), await numbers(other.message_id)]).toEqual([[1, 2], [1]]);
  });
});

describe('in the transaction of the page (R1)', () => {
  test('replays make none: the last page, and everything again in a new epoch', async () => {
    const { message_id, version } = message();
    const pages: Lists[] = [
      { messages: [version({ body: 'a' }), version({ body: 'b' })] },
      { messages: [{ message_id, seq: 1n, status: 'read' }, version({ body: 'c' }), version({ body: 'c' })] },
    ];
    for (const page of pages) await bench.bring(page);
    const before = await revisionsOf(message_id, '*');
    expect(before.map(({ body }) => body)).toEqual(['a', 'b']);
    await bench.bringAgain(pages[1]!);
    await bench.db.transaction().execute(async (trx) => {
      await lockState(trx, CONNECTION);
      await startEpoch(trx, CONNECTION, 'resync', false);
    });
    for (const page of pages) await bench.bring(page);
    expect(await revisionsOf(message_id, '*')).toEqual(before);
  });

  test.each(['rows_written', 'before_commit'] as const)(
    'a death at %s makes none, and the page one',
    async (point) => {
      const { message_id, version } = message();
      await bring(version({ body: 'a' }));
      const page = { messages: [version({ body: 'b' })] };
      const reached = (at: string) => {
        if (at === point) throw new Error('died');
      };
      for (let times = 0; times < 2; times++)
        await expect(bench.bring(page, { reached })).rejects.toThrow('died');
      expect(await bodies(message_id)).toEqual([]);
      await bench.bring(page);
      expect(await bodies(message_id)).toEqual(['a']);
    },
  );
});

describe('DELETED_MESSAGES=redact blanks what a deletion for everyone replaced', () => {
  const contents = (id: string) =>
    revisionsOf(id, 'content_type, body, media, deleted_at is not null as deleted');

  test('text and media, of the replaced version and of all before it; not those of other messages', async () => {
    const [one, other] = [message({ media: { a: 1 } }), message()];
    for (const body of [null, 'b', 'c', 'd'])
      await bench.bring({ messages: [one.version({ body }), other.version({ body })] }, { history: REDACT });
    await bring(one.version({ body: null, media: null, deleted_at: DELETED }), REDACT);
    const blank = { content_type: 'text', body: null, media: null, deleted: false };
    expect(await contents(one.message_id)).toEqual([blank, blank, blank, blank]);
    expect(await bodies(other.message_id)).toEqual([null, 'b', 'c']);
  });

  test('versions that came in the same page as the deletion', async () => {
    const { message_id, version } = message();
    const page = [
      version({ body: 'a' }),
      version({ body: 'b' }),
      version({ body: null, deleted_at: DELETED }),
    ];
    await bench.bring({ messages: page }, { history: REDACT });
    expect(await bodies(message_id)).toEqual([null, null]);
  });

  test('what was kept while it was `keep`', async () => {
    const { message_id, version } = message();
    for (const body of ['a', 'b']) await bring(version({ body }));
    expect(await bodies(message_id)).toEqual(['a']);
    await bring(version({ body: null, deleted_at: DELETED }), REDACT);
    expect(await bodies(message_id)).toEqual([null, null]);
  });

  test('a partial deletion too, although the message itself mirrors the upstream', async () => {
    const { message_id, version } = message();
    for (const body of ['a', 'b']) await bring(version({ body }), REDACT);
    await bring({ message_id, seq: version().seq, deleted_at: DELETED }, REDACT);
    expect(await bodies(message_id)).toEqual([null, null]);
    expect(await bench.query('select body from whatsapp.messages where message_id = $1', message_id)).toEqual(
      [{ body: 'b' }],
    );
  });

  test('a stale deletion blanks nothing', async () => {
    const { message_id, version } = message();
    await bring(version({ body: 'a' }), REDACT);
    const stale = version({ body: null, deleted_at: DELETED });
    await bring(version({ body: 'b' }), REDACT);
    await bring(stale, REDACT);
    expect(await bodies(message_id)).toEqual(['a']);
  });

  test('`keep` keeps them', async () => {
    const { message_id, version } = message();
    for (const body of ['a', 'b']) await bring(version({ body }));
    await bring(version({ body: null, deleted_at: DELETED }));
    expect(await bodies(message_id)).toEqual(['a', 'b']);
  });
});
