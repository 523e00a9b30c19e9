import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  type ErrorKind,
  kindOfStatus,
  mayPass,
  parks,
  ReplicaError,
  refusesData,
  sqlstate,
} from '../../src/errors/errors.ts';
import { remedy, remedyOf } from '../../src/errors/remedies.ts';

describe('the kind of a status', () => {
  const others: readonly [least: number, most: number, kind: ErrorKind][] = [
    [100, 399, 'protocol'],
    [400, 499, 'bad_request'],
    [500, 599, 'upstream'],
  ];
  const named: Readonly<Record<number, ErrorKind>> = {
    401: 'unauthorized',
    402: 'payment_required',
    403: 'unauthorized',
    404: 'not_found',
    409: 'not_paired',
    429: 'rate_limited',
    502: 'not_ready',
    503: 'not_ready',
  };

  test.each(Object.entries(named))('%s is %s', (status, kind) =>
    expect(kindOfStatus(Number(status))).toBe(kind),
  );

  test.each(others)('from %i to %i is %s otherwise', (least, most, kind) => {
    for (let status = least; status <= most; status++) {
      if (named[status] === undefined) expect([status, kindOfStatus(status)]).toEqual([status, kind]);
    }
  });
});

describe('the verdict', () => {
  const retried: ErrorKind[] = [
    ...(['network', 'timeout', 'rate_limited', 'upstream', 'not_ready', 'protocol', 'oversize'] as const),
    ...(['stalled', 'database', 'media_store', 'lease_lost', 'crm', 'internal'] as const),
  ];
  const parked: ErrorKind[] = ['unauthorized', 'payment_required', 'not_found', 'not_paired', 'bad_request'];
  const fatal: ErrorKind[] = ['schema_newer', 'schema_pending', 'migration_failed'];

  test.each([
    ...retried.map((kind) => [kind, 'retry'] as const),
    ...parked.map((kind) => [kind, 'park'] as const),
    ...fatal.map((kind) => [kind, 'fatal'] as const),
  ])('of %s is %s', (kind, verdict) => {
    expect(new ReplicaError(kind, { where: 'here' }).verdict).toBe(verdict);
    expect(parks(kind)).toBe(verdict === 'park');
  });

  test('of what parks comes with what to do', () => {
    for (const kind of parked) expect(remedy(kind)).toMatch(/\w/);
  });

  test('of a kind that is none is not to park', () => {
    expect(parks('toString')).toBe(false);
    expect(remedy('no such kind')).toBeUndefined();
  });
});

describe('what to do about one that was noted', () => {
  test.each([
    ['database', 'writing a page: 53100', 'the disk of Postgres is full'],
    ['database', 'writing a page: P0001', 'a trigger or a constraint'],
    ['database', 'writing a page: 23514', 'a trigger or a constraint'],
    ['database', 'writing a page: 22001', 'a trigger or a constraint'],
    ['database', 'writing a page: 54000', 'a trigger or a constraint'],
    ['database', 'claiming leases: 42P01', '`wa-replica migrate`'],
    ['database', 'using Postgres: 3F000', '`wa-replica migrate`'],
    ['database', 'writing a page: 42703', '`wa-replica migrate`'],
    ['database', 'writing a page: 25006', 'default_transaction_read_only'],
    ['database', 'writing a page: XX000', 'check that Postgres is up'],
    ['database', null, 'check that Postgres is up'],
    ['protocol', 'the answer has a lower cursor than the one sent: cursor_went_back', 'RESET_CONFIRM'],
    ['stalled', 'a single record has 99 bytes or more: record_too_large', 'raise MAX_RESPONSE_BYTES'],
    ['stalled', 'has_more is set, but the cursor does not move', 'ask the vendor'],
    // A code of another kind is none of its own.
    ['crm', 'reading contacts: 53100', undefined],
  ])('of %s, %s', (kind, message, told) => {
    expect(remedyOf({ kind, message })).toEqual(
      told === undefined ? undefined : expect.stringContaining(told),
    );
  });
});

describe('the code of an error', () => {
  const withCode = (code: unknown, cause?: unknown) => Object.assign(new Error('text', { cause }), { code });
  test.each<[what: string, error: unknown, code: string]>([
    ['its code', withCode('ECONNRESET'), 'ECONNRESET'],
    ['its SQLSTATE', withCode('57P01'), '57P01'],
    ['its own rather than its cause’s', withCode('UND_ERR_SOCKET', withCode('EPIPE')), 'UND_ERR_SOCKET'],
    ['its cause’s', new TypeError('fetch failed', { cause: withCode('ENOTFOUND') }), 'ENOTFOUND'],
    [
      'its cause’s cause’s',
      new Error('a', { cause: new Error('b', { cause: withCode('EAI_AGAIN') }) }),
      'EAI_AGAIN',
    ],
    ['no number', withCode(23), 'Error'],
    ['the name of its class', new TypeError('text'), 'TypeError'],
    ['the name of a DOMException', new DOMException('text', 'TimeoutError'), 'TimeoutError'],
    ['the type of what is no error', 'postgres://user:password@host', 'string'],
    ['the type of undefined', undefined, 'undefined'],
    ['the type of null', null, 'object'],
    ['the type of an object without any', {}, 'object'],
  ])('is %s', (_, error, code) => expect(codeOf(error)).toBe(code));
});

describe('a SQLSTATE', () => {
  test.each([
    '22021',
    '22P02',
    '23505',
    '40001',
    '53300',
    '54001',
    '57P01',
    'P0001',
    'XX000',
    'HV000',
    'F0000',
  ])('is %s', (code) => expect(sqlstate({ code })).toBe(code));

  test.each<unknown>([
    // Five letters, but the operating system's.
    ...['EPIPE', 'EPERM', 'EBUSY', 'EROFS', 'EXDEV', 'ECONNREFUSED', 'UND_ERR_SOCKET', 'ABORT'],
    ...['2202', '220211', '22p02', ' 22021', '22021\n', '', 22021, undefined, null],
  ])('is not %j', (code) => expect(sqlstate({ code })).toBeUndefined());

  test.each([undefined, null, '22021', 22021, {}, new Error('22021')])('is not in %s', (error) =>
    expect(sqlstate(error)).toBeUndefined(),
  );

  test.each([
    ['22021', true],
    ['22P05', true],
    ['22001', true],
    ['54000', true],
    ['54001', true],
    // Everything else is a failure of the database, never blamed on a record.
    ['23505', false],
    ['53100', false],
    ['53200', false],
    ['57014', false],
    ['40P01', false],
    ['25006', false],
    ['XX000', false],
    ['EPIPE', false],
  ])('%s refuses data: %s', (code, refuses) => expect(refusesData({ code })).toBe(refuses));
});

describe('what may pass by itself', () => {
  test.each([
    ...['08006', '25006', '25P03', '25P04', '40P01', '53300', '55P03', '57014', '57P01', '58030'],
    ...['ECONNREFUSED', 'NO_CONNECTION'],
  ])('is %s', (code) => expect(mayPass({ code })).toBe(true));

  test.each([
    '25001',
    '25P02',
    '28P01',
    '3D000',
    '42501',
    '42P07',
    '57P04',
    'NO_PASSWORD',
    'PASSFILE_PERMISSIONS',
  ])('is not %s', (code) => expect(mayPass({ code })).toBe(false));
});

describe('a ReplicaError', () => {
  test('says its place and code, and what to do', () => {
    const error = new ReplicaError('unauthorized', { where: 'GET /v1/me', code: 'HTTP 401', retryAfter: 5 });
    expect(error).toMatchObject({
      message: 'GET /v1/me: HTTP 401',
      name: 'ReplicaError',
      kind: 'unauthorized',
      code: 'HTTP 401',
      where: 'GET /v1/me',
      hint: remedy('unauthorized'),
      retryAfter: 5,
    });
    expect(new ReplicaError('internal', { where: 'a turn' })).toMatchObject({ message: 'a turn' });
    expect(new ReplicaError('database', { where: 'x', hint: 'do this' }).hint).toBe('do this');
  });

  test('holds nothing of the text of the error that it came from', () => {
    const texts = fc.string({ minLength: 1 }).map((text) => `§${text}§`);
    fc.assert(
      fc.property(texts, texts, fc.constantFrom('22021', 'ECONNRESET', undefined), (text, detail, code) => {
        const cause = Object.assign(new Error(text), { code: 'EPIPE', detail });
        const foreign = Object.assign(new Error(text, { cause }), {
          code,
          detail,
          hint: text,
          query: detail,
        });
        const error = ReplicaError.from('database', foreign, 'writing a page');
        expect(error.message).toBe(`writing a page: ${code ?? 'EPIPE'}`);
        expect(error.cause).toBeUndefined();
        const shown = [inspect(error, { depth: null, showHidden: true }), JSON.stringify(error), error.stack];
        for (const one of shown) expect(one).not.toContain('§');
      }),
    );
  });
});

test('an error of ours keeps its kind, wherever it passes', () => {
  const error = new ReplicaError('erasure_key', { where: 'here' });
  expect(ReplicaError.from('database', error, 'there')).toBe(error);
});
