import fc from 'fast-check';
import { getCountries } from 'libphonenumber-js/min';
import { describe, expect, test } from 'vitest';
import { COUNTRIES } from '../../src/config/values.ts';
import { isCountry, otherForms, phonesIn } from '../../src/crm/phones.ts';

describe('a number as it is typed', () => {
  test.each<[text: string, country: string | undefined, phones: string[]]>([
    ['+49 151 12345678', undefined, ['+4915112345678']],
    ['0151 12345678', 'DE', ['+4915112345678']],
    ['0151 12345678', 'de', ['+4915112345678']],
    ['+49 (0)151 1234-5678', undefined, ['+4915112345678']],
    ['0049 151 12345678', undefined, ['+4915112345678']],
    ['0049 151 12345678', 'US', ['+4915112345678']],
    ['011 49 151 12345678', 'US', ['+4915112345678']],
    // Of a country whose numbers vary in length this could be one at home, too.
    ['4915112345678', 'DE', ['+4915112345678']],
    ['4915112345678', undefined, ['+4915112345678']],
    ['49.151.12345678', 'DE', ['+4915112345678']],
    // Without a plus only the home's own country is one.
    ['4915112345678', 'US', []],
    ['(555) 555-0123', 'US', ['+15555550123']],
    ['0661234567', 'IT', ['+390661234567']],
    ['3912345678', 'IT', ['+393912345678']],
    ['030/1234567', 'DE', ['+49301234567']],
    ['٠١٥١١٢٣٤٥٦٧٨', 'DE', ['+4915112345678']],
    ['0151 12345678 ext. 12', 'DE', ['+4915112345678']],
    ['mobile: 0151 12345678 (private)', 'DE', ['+4915112345678']],
    // The country is the number's own where it has one.
    ['+44 7911 123456', 'DE', ['+447911123456']],
    // As WhatsApp has Mexican numbers, which the metadata do not know any more.
    ['+52 1 55 1234 5678', undefined, ['+5215512345678']],
  ])('%s, at home in %s', (text, country, phones) => expect(phonesIn(text, country)).toEqual(phones));

  test.each<[text: string, phones: string[]]>([
    ['0151 12345678 / 0171 7654321', ['+4915112345678', '+491717654321']],
    ['0151-12345678 or 0171-7654321', ['+4915112345678', '+491717654321']],
    ['+44 7911 123456, 0171 7654321', ['+447911123456', '+491717654321']],
    ['0151 12345678; 0151/12345678', ['+4915112345678']],
    ['0151 12345678\n–', ['+4915112345678']],
    ['0151 12345678\n0171 7654321', ['+4915112345678', '+491717654321']],
    [
      '0151 12345678 und 0171 7654321 ODER 0171 7654322 And 0171 7654323',
      ['+4915112345678', '+491717654321', '+491717654322', '+491717654323'],
    ],
    ['office 030 12345 / mobile 0171 7654321', ['+493012345', '+491717654321']],
    ['office +49 30 12345 / mobile +49 171 7654321', ['+493012345', '+491717654321']],
    ['4915112345678 / +44 7911 123456', ['+4915112345678', '+447911123456']],
    [`${'note, '.repeat(39)},  0151 12345678`, ['+4915112345678']],
  ])('several in %j', (text, phones) => expect(phonesIn(text, 'DE')).toEqual(phones));

  test.each([
    ['n/a', 'DE'],
    ['-', 'DE'],
    ['123', 'DE'],
    ['00', undefined],
    ['+', undefined],
    ['0151 12345678', undefined],
    ['0151 12345678', 'XX'],
    ['somebody@example.com', 'DE'],
    ['+999 12345678', 'DE'],
    ['+52 12345', 'DE'],
    [`call back ${'9'.repeat(300)}`, 'DE'],
    [`${'a note, '.repeat(30)}0151 12345678`, 'DE'],
  ])('none in %j, at home in %s', (text, country) => expect(phonesIn(text, country)).toEqual([]));

  test('is E.164 whatever the text, and is read as itself', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.stringMatching(/^[+0-9 ()/.-]{0,24}$/),
      fc.string({ unit: 'binary', maxLength: 30 }),
    );
    const countries = fc.constantFrom(undefined, 'DE', 'US', 'BR', 'MX', 'IT', 'XX');
    fc.assert(
      fc.property(texts, countries, (text, country) => {
        for (const phone of phonesIn(text, country)) {
          expect(phone).toMatch(/^\+[1-9]\d{4,14}$/);
          expect(phonesIn(phone, country)).toEqual([phone]);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test.each([
  ['+5511987654321', ['+551187654321']],
  ['+551187654321', ['+5511987654321']],
  ['+551133334444', []],
  ['+5215512345678', ['+525512345678']],
  ['+525512345678', ['+5215512345678']],
  ['+5491123456789', ['+541123456789']],
  ['+541123456789', ['+5491123456789']],
  ['+4915112345678', []],
])('%s is also known as %j', (phone, others) => expect(otherForms(phone)).toEqual(others));

test('a country is one whose numbers are known, and so is that of the setting', () => {
  expect([...COUNTRIES].sort()).toEqual([...getCountries()].sort());
  expect(['DE', 'gb', ' US '].map(isCountry)).toEqual([true, true, true]);
  expect(['XX', 'UK', ''].map(isCountry)).toEqual([false, false, false]);
});
