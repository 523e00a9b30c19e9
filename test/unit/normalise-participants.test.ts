import { describe, expect, test } from 'vitest';
import type { Row } from '../../src/model.ts';
import { changesOf, parsedRow, rejectOf } from './pages.ts';

function conversation(participants: string): string {
  return `{"conversation_id":"c1","seq":3,"subject":"s","participants":${participants}}`;
}

/** The membership that would be written, and what of it is refused. */
function membership(participants: string): { rows: Row[]; refused: string[] } {
  const { batches, rejects } = changesOf('conversations', conversation(participants));
  const row = batches[0]!.rows[0]!;
  return { rows: row.participants as Row[], refused: rejects.map((reject) => reject.code) };
}

describe('participants (R7)', () => {
  test.each([
    ['absent', '{"conversation_id":"c1"}'],
    ['null', '{"conversation_id":"c1","participants":null}'],
  ])('that are %s leave the membership as it is', (_, json) => {
    expect(parsedRow('conversations', json)).not.toHaveProperty('participants');
  });

  test('that are an empty array replace it', () => {
    expect(membership('[]')).toEqual({ rows: [], refused: [] });
  });

  test('come with their fields, and with what is not known', () => {
    const participants =
      '[{"participant_jid":"a@lid","person_id":"p","role":"admin","since":1.50},{"participant_jid":"b@lid"}]';
    expect(JSON.stringify(membership(participants).rows)).toBe(
      '[{"participant_jid":"a@lid","person_id":"p","role":"admin","extra":{"since":1.50}},{"participant_jid":"b@lid"}]',
    );
  });

  test('of which one comes twice: the last one counts (R3)', () => {
    const twice = [
      { participant_jid: 'a', role: 'member', person_id: 'p' },
      { participant_jid: 'b' },
      { participant_jid: 'a', role: 'admin' },
    ];
    expect(membership(JSON.stringify(twice)).rows).toEqual([
      { participant_jid: 'a', role: 'admin' },
      { participant_jid: 'b' },
    ]);
  });

  test('of which the last of a JID is bad: the one before it counts', () => {
    const twice = [
      { participant_jid: 'a', role: 'member' },
      { participant_jid: 'a', role: 5 },
    ];
    expect(membership(JSON.stringify(twice))).toEqual({
      rows: [{ participant_jid: 'a', role: 'member' }],
      refused: ['type_mismatch'],
    });
  });

  test.each(['{}', '""', '5', '1.5', 'true', '{"0":{"participant_jid":"a"}}'])(
    'that are %s refuse their conversation (R9)',
    (json) =>
      expect(rejectOf('conversations', conversation(json))).toMatchObject({
        kind: 'conversation',
        recordId: 'c1',
        version: '3',
        code: 'type_mismatch',
        reason: '"participants" is not an array',
        json: Buffer.from(conversation(json)),
      }),
  );
});

describe('a bad participant is refused without its conversation (R9)', () => {
  const long = 'x'.repeat(1025);
  test.each<[json: string, code: string, recordId: string | null]>([
    ['null', 'not_an_object', null],
    ['"a@lid"', 'not_an_object', null],
    ['[{"participant_jid":"a"}]', 'not_an_object', null],
    ['12345678901234567890', 'not_an_object', null],
    ['{}', 'id_missing', null],
    ['{"participant_jid":null}', 'id_missing', null],
    ['{"participant_jid":""}', 'id_missing', null],
    ['{"participant_jid":5}', 'type_mismatch', null],
    [`{"participant_jid":"${long}"}`, 'id_too_long', 'x'.repeat(200)],
    ['{"participant_jid":"a","person_id":5}', 'type_mismatch', 'a'],
    [`{"participant_jid":"a","person_id":"${long}"}`, 'id_too_long', 'a'],
    ['{"participant_jid":"a", "role" : {"x":[1]} }', 'type_mismatch', 'a'],
    [`{"participant_jid":"a","x":${'['.repeat(300)}${']'.repeat(300)}}`, 'too_deep', 'a'],
  ])('%s: %s', (json, code, recordId) => {
    const text = conversation(`[{"participant_jid":"good"}, ${json} ,{"participant_jid":"g2"}]`);
    const { batches, rejects } = changesOf('conversations', text);
    expect(batches[0]!.rows).toMatchObject([
      { conversation_id: 'c1', participants: [{ participant_jid: 'good' }, { participant_jid: 'g2' }] },
    ]);
    expect(rejects).toEqual([
      {
        kind: 'participant',
        recordId,
        conversationId: 'c1',
        version: '3',
        json: Buffer.from(json),
        code,
        reason: expect.any(String),
      },
    ]);
  });

  test('alone, and its conversation has no members then', () => {
    expect(membership('[null]')).toEqual({ rows: [], refused: ['not_an_object'] });
  });

  test('with its own bytes, wherever the conversation stands and the array in it', () => {
    const bad = (role: number) => `{ "participant_jid":"b", "role":${role}, "x":"]}" }`;
    const first = `{"conversation_id":"c1","participants":[${bad(1)}],"subject":"[{"}`;
    const second = `{"participants":[{"role":"x"}],"conversation_id":"c2","participants" : [1.0,${bad(2)}]}`;
    const { rejects } = changesOf('conversations', first, '{"conversation_id":"c0"}', second);
    expect(rejects.map((reject) => [reject.conversationId, reject.json.toString()])).toEqual([
      ['c1', bad(1)],
      ['c2', '1.0'],
      ['c2', bad(2)],
    ]);
  });

  test('among a hundred thousand of them, in time that grows with their number only', () => {
    const many = `[${new Array(100_000).fill('1').join(',')}]`;
    expect(membership(many).refused).toHaveLength(100_000);
  });

  test('but not on its own where its conversation is refused', () => {
    const { rejects } = changesOf(
      'conversations',
      '{"conversation_id":"c1","subject":5,"participants":[null]}',
    );
    expect(rejects.map((reject) => reject.kind)).toEqual(['conversation']);
  });

  test('holds no value in its reason', () => {
    const participants = [{ participant_jid: '§'.repeat(600) }, { participant_jid: 'a', role: ['§'] }, '§'];
    const { rejects } = changesOf('conversations', conversation(JSON.stringify(participants)));
    expect(rejects).toHaveLength(3);
    for (const { reason } of rejects) expect(reason).not.toContain('§');
  });
});
