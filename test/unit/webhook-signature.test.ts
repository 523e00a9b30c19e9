import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSigned } from '../../src/ops/http/webhook.ts';
import { signature } from '../../src/simulator/webhooks.ts';

const NOW = Date.UTC(2026, 10, 20, 12);
const SECONDS = NOW / 1000;
const SECRET = 'whsec_one';
const BODY = '{"connection_id":"conn_a"}';

const isGood = (header: string, { body = BODY, secrets = [SECRET], now = NOW } = {}) =>
  isSigned(header, Buffer.from(body), secrets, now);
const signed = (secret = SECRET, seconds = SECONDS, body = BODY) => signature(secret, seconds, body);
const v1 = (secret = SECRET, seconds = SECONDS, body = BODY) => signed(secret, seconds, body).split(',')[1]!;

describe('a signature is taken', () => {
  test.each<[string, string]>([
    ['as the upstream sends it', signed()],
    ['with spaces', signed().replace(',', ' , ')],
    ['with the parts the other way round', signed().split(',').reverse().join(',')],
    ['with upper-case digits', signed().replace(/v1=.*/, (part) => `v1=${part.slice(3).toUpperCase()}`)],
    ['beside one of an unknown kind', `${signed()},v0=abc,x`],
    ['beside others of the same kind, first', `${signed()},${v1('whsec_other')}`],
    ['beside others of the same kind, last', `t=${SECONDS},${v1('whsec_other')},v1=,v1=zz,${v1()}`],
    ['five minutes old', signed(SECRET, SECONDS - 300)],
    ['five minutes ahead', signed(SECRET, SECONDS + 300)],
  ])('%s', (_, header) => expect(isGood(header)).toBe(true));

  test('of any of the secrets, while one is rotated', () => {
    const secrets = ['whsec_old', 'whsec_new'];
    for (const secret of secrets) expect(isGood(signed(secret), { secrets })).toBe(true);
    expect(isGood(signed('whsec_third'), { secrets })).toBe(false);
  });

  test('over the bytes that came, whatever they are', () => {
    const bytes = Buffer.from([0xff, 0x00, 0x0a, 0xc3]);
    const text = bytes.toString('latin1');
    // The simulator signs texts; these bytes are none.
    expect(isSigned(signed(SECRET, SECONDS, text), bytes, [SECRET], NOW)).toBe(false);
    expect(isGood(signed(SECRET, SECONDS, ''), { body: '' })).toBe(true);
  });
});

describe('a signature is refused', () => {
  const good = v1().slice(3);
  test.each<[string, string]>([
    ['of another secret', signed('whsec_other')],
    ['of another body', signed(SECRET, SECONDS, `${BODY} `)],
    ['of another time than it says', signed().replace(`t=${SECONDS}`, `t=${SECONDS + 1}`)],
    ['over five minutes old', signed(SECRET, SECONDS - 301)],
    ['over five minutes ahead', signed(SECRET, SECONDS + 301)],
    ['of the year 1970', signed(SECRET, 0)],
    ['with a time in milliseconds', signed(SECRET, NOW)],
    ['with a negative time', signed(SECRET, -SECONDS)],
    ['with a time that is no number', signed(SECRET, Number.NaN)],
    ['with a fraction of a time', signed(SECRET, SECONDS + 0.5)],
    ['without a time', `v1=${good}`],
    ['without a signature', `t=${SECONDS}`],
    ['with an empty one', `t=${SECONDS},v1=`],
    ['cut short', signed().slice(0, -2)],
    ['with half a byte less', signed().slice(0, -1)],
    ['with a byte more', `${signed()}00`],
    ['with something behind it', `${signed()}zz`],
    ['with something before it', `t=${SECONDS},v1=0x${good}`],
    ['in base64', `t=${SECONDS},v1=${Buffer.from(good, 'hex').toString('base64')}`],
    ['under another name', `t=${SECONDS},v2=${good}`],
    ['with the names in capitals', `T=${SECONDS},V1=${good}`],
    ['of nothing', ''],
    ['of commas', ',,,'],
  ])('%s', (_, header) => expect(isGood(header)).toBe(false));

  test('where there is no secret', () => expect(isGood(signed(''), { secrets: [] })).toBe(false));

  test('whatever it is, unless it is the right one', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (header) => !isGood(header)));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const hex = Buffer.from(bytes).toString('hex');
        expect(isGood(`t=${SECONDS},v1=${hex}`)).toBe(hex === good);
      }),
    );
  });

  test('when a single bit of the body, the time or the signature is another', () => {
    const header = signed();
    const body = Buffer.from(BODY);
    for (let bit = 0; bit < body.length * 8; bit++) {
      const other = Buffer.from(body);
      other[bit >> 3]! ^= 1 << (bit & 7);
      expect(isSigned(header, other, [SECRET], NOW)).toBe(false);
    }
    for (let place = 0; place < good.length; place++) {
      const digit = good[place] === '0' ? '1' : '0';
      const other = good.slice(0, place) + digit + good.slice(place + 1);
      expect(isGood(`t=${SECONDS},v1=${other}`)).toBe(false);
    }
  });
});
