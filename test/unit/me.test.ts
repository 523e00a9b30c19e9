import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { connectionsIn } from '../../src/upstream/me.ts';

describe('the connections of /v1/me', () => {
  test.each<[what: string, me: unknown, ids: string[]]>([
    ['strings', { connection_ids: ['b', 'a'] }, ['a', 'b']],
    ['strings under connections', { connections: ['a'] }, ['a']],
    ['objects with id', { connections: [{ id: 'a', jid: 'x@s.whatsapp.net' }] }, ['a']],
    ['objects with connection_id', { connections: [{ connection_id: 'a' }] }, ['a']],
    [
      'objects with both, of which connection_id counts',
      { connections: [{ id: '1', connection_id: 'a' }] },
      ['a'],
    ],
    ['objects under connection_ids', { connection_ids: [{ id: 'a' }] }, ['a']],
    ['a mixture', { connections: ['a', { id: 'b' }, { connection_id: 'c' }] }, ['a', 'b', 'c']],
    ['deeper', { data: { access: [{ key: { connections: ['a'] } }] } }, ['a']],
    ['in several places', { connection_ids: ['a'], org: { connections: [{ id: 'b' }, 'a'] } }, ['a', 'b']],
    ['in an answer that is an array', [{ connection_ids: ['a'] }], ['a']],
    ['below an object of that name', { connections: { connection_ids: ['a'] } }, ['a']],
    ['an empty list', { connection_ids: [] }, []],
    ['a list without a readable id', { connections: [1, '', null, {}, { id: 7 }, { id: '' }, true, []] }, []],
    [
      'a list with ids that can be none',
      {
        connections: ['\u0000', 'a\n', '漢', '\ud800', 'x'.repeat(1025), { id: '\t' }, 'a', 'x'.repeat(1024)],
      },
      ['a', 'x'.repeat(1024)],
    ],
    ['a list with one readable id', { connections: [null, { name: 'x' }, 'a'] }, ['a']],
  ])('are found: %s', (_, me, ids) => expect(connectionsIn(me)).toEqual(ids));

  test.each<[what: string, me: unknown]>([
    ['an empty object', {}],
    ['other keys', { organization: { id: 'o' }, scopes: ['whatsapp:read'], connection: ['a'] }],
    ['no list', { connections: 'a', connection_ids: null }],
    ['a number of them', { connections: 3 }],
    ['null', null],
    ['nothing', undefined],
    ['text', 'connection_ids'],
    ['an array', ['connections']],
  ])('are not listed at all: %s', (_, me) => expect(connectionsIn(me)).toBeUndefined());

  test('are told apart from ids that can be none, and those from what is no id', () => {
    const refused = new Set<string>();
    const listed = [
      'a',
      '漢',
      '漢',
      { id: 'line\n' },
      { connection_id: 'x'.repeat(1025) },
      '',
      7,
      {},
      { id: 7 },
    ];
    expect(connectionsIn({ connections: listed }, refused)).toEqual(['a']);
    expect([...refused]).toEqual(['漢', 'line\n', 'x'.repeat(1025)]);
  });

  test('are found at any depth, without a stack', () => {
    const depth = 100_000;
    const open = '{"a":['.repeat(depth);
    const close = ']}'.repeat(depth);
    expect(connectionsIn(JSON.parse(`${open}{"connection_ids":["deep"]}${close}`))).toEqual(['deep']);
  });

  test('are found wherever they are put, each once, in order', () => {
    const ids = fc.array(fc.string({ minLength: 1 }), { minLength: 1 });
    const path = fc.array(fc.oneof(fc.constantFrom('data', 'access', '0', '__proto__'), fc.nat({ max: 3 })));
    fc.assert(
      fc.property(ids, path, fc.anything({ withNullPrototype: false }), (wanted, steps, noise) => {
        let me: unknown = { connections: wanted, noise: JSON.parse(JSON.stringify([noise ?? null]) ?? '0') };
        for (const step of steps) {
          const outer = me;
          me = typeof step === 'number' ? [...new Array(step).fill(null), outer] : JSON.parse('{}');
          if (typeof step === 'string') Object.defineProperty(me, step, { value: outer, enumerable: true });
        }
        const found = connectionsIn(me) ?? [];
        expect(found).toEqual([...new Set(found)].sort());
        expect(found).toEqual(expect.arrayContaining(wanted));
      }),
    );
  });
});
