/** Pages and what may befall them, drawn at random: for the property test of any order. */
import fc from 'fast-check';
import type { CrashPoint } from '../../src/sync/crash-points.ts';
import type { ModelPage } from './any-order-model.ts';

/* Few values, so that records meet; int64 beyond what a double holds. */
const version = fc.constantFrom(1n, 2n, 3n, 9007199254740992n, 9007199254740993n, 9223372036854775807n);
const maybe = <T>(...values: T[]) => fc.constantFrom<(T | null)[]>(null, ...values);
const extra = { note: fc.constantFrom(1, 9007199254740993n), tag: fc.constant('é') };
export const TIME = '2026-11-01T10:00:00Z';
const partial = {
  message_id: fc.constantFrom('m1', 'm2'),
  seq: version,
  content_type: maybe('text', 'image'),
  body: maybe('x', 'y'),
  status: maybe('sent', 'read'),
  media: maybe({ a: 1 }, { a: 9007199254740993n }),
  deleted_at: maybe(TIME),
  ...extra,
};
const whole = { ...partial, conversation_id: fc.constantFrom('c1', 'c2'), sent_at: maybe(TIME) };
const participant = fc.record(
  { participant_jid: fc.constantFrom('a@lid', 'b@lid', 'c@lid'), role: maybe('admin'), ...extra },
  { requiredKeys: ['participant_jid'] },
);
const message = fc.oneof(
  { weight: 2, arbitrary: fc.record(whole, { requiredKeys: ['message_id', 'conversation_id'] }) },
  { weight: 1, arbitrary: fc.record(partial, { requiredKeys: ['message_id'] }) },
);
const conversation = fc.record(
  {
    conversation_id: fc.constantFrom('c1', 'c2'),
    seq: version,
    subject: maybe('s', 't'),
    is_archived: maybe(true, false),
    participants: fc.option(fc.array(participant, { maxLength: 3 })),
    ...extra,
  },
  { requiredKeys: ['conversation_id'] },
);
const contact = fc.record(
  {
    person_id: fc.constantFrom('p1', 'p2'),
    display_name: maybe('A', 'B'),
    company: maybe('C'),
    seq: version,
    ...extra,
  },
  { requiredKeys: ['person_id'] },
);
const page: fc.Arbitrary<ModelPage> = fc.record({
  cursor: version,
  messages: fc.array(message, { maxLength: 4 }),
  conversations: fc.array(conversation, { maxLength: 3 }),
  contacts: fc.array(contact, { maxLength: 3 }),
});

export type Step =
  | { readonly do: 'page'; readonly page: ModelPage }
  /** One of the pages before, again. */
  | { readonly do: 'replay'; readonly which: number }
  /** Written by one whose position is not the stored one. */
  | { readonly do: 'fenced'; readonly page: ModelPage; readonly by: 'epoch' | 'cursor' | 'term' }
  /** The process dies at this point; what comes after it reads what is stored. */
  | { readonly do: 'crash'; readonly page: ModelPage; readonly at: CrashPoint }
  | { readonly do: 'resync' | 'reset' };

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('page' as const), page }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('replay' as const), which: fc.nat(20) }) },
  fc.record({ do: fc.constant('fenced' as const), page, by: fc.constantFrom('epoch', 'cursor', 'term') }),
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      page,
      at: fc.constantFrom<CrashPoint[]>('rows_written', 'before_commit', 'committed'),
    }),
  },
  fc.record({ do: fc.constantFrom('resync' as const, 'reset' as const) }),
);
