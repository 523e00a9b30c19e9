import {
  type CountryCode,
  getCountryCallingCode,
  isSupportedCountry,
  parsePhoneNumberFromString as parse,
} from 'libphonenumber-js/min';

/*
 * Phone numbers as people type them. A number counts where its length is possible in its country: whether anybody has
 * it, WhatsApp says, since only a number that is the same links; and a range that a country opened after this version
 * was made is no reason to leave a contact out. So the smaller metadata do.
 */

/** What stands between several numbers in one field. */
const BETWEEN = /[;,|\n]|\b(?:or|oder|und|and)\b/i;

/** Longest text that is looked into; what is longer is a note. */
const LONGEST = 250;

/** The numbers in a text, in E.164; none where nothing in it can be read as one.
 * @param country what numbers without one belong to: two letters of ISO 3166, in any case; others count as none. */
export function phonesIn(text: string, country: string | undefined): string[] {
  if (text.length > LONGEST) return [];
  const home = countryOf(country);
  // A slash may also stand between area code and number: what is whole with it stays whole.
  const found = text.split(BETWEEN).flatMap((part) => {
    const whole = strict(part.trim(), home);
    if (whole !== undefined) return [whole];
    const pieces = part.includes('/') ? part.split('/') : [part];
    return pieces.map((piece) => strict(piece.trim(), home) ?? among(piece, home));
  });
  return [...new Set(found.filter((one) => one !== undefined))];
}

/** Whether numbers of a country can be read. */
export function isCountry(country: string): boolean {
  return countryOf(country) !== undefined;
}

/**
 * The other numbers under which WhatsApp may know a number: in some countries mobile numbers got or lost a digit, and
 * accounts of before kept the old form.
 */
export function otherForms(phone: string): string[] {
  for (const [long, short] of FORMS) {
    if (long.test(phone)) return [phone.replace(long, '$1$2')];
    if (short.test(phone))
      return [phone.replace(short, (_, head: string, tail: string) => head + digitOf(head) + tail)];
  }
  return [];
}

/** Brazil's ninth digit, Mexico's 1 and Argentina's 9: with it, and without. */
const FORMS: readonly (readonly [RegExp, RegExp])[] = [
  [/^(\+55\d\d)9(\d{8})$/, /^(\+55\d\d)([6-9]\d{7})$/],
  [/^(\+52)1(\d{10})$/, /^(\+52)(\d{10})$/],
  [/^(\+54)9(\d{10})$/, /^(\+54)(\d{10})$/],
];
const digitOf = (head: string) => (head === '+52' ? '1' : '9');

function countryOf(country: string | undefined): CountryCode | undefined {
  const code = country?.trim().toUpperCase();
  return code !== undefined && isSupportedCountry(code) ? code : undefined;
}

/** The one number that a text is, but for spaces, brackets and the like. */
function strict(text: string, home: CountryCode | undefined): string | undefined {
  const digits = text.replace(/[\s().\-/]/g, '');
  if (/^\d+$/.test(digits) && digits.startsWith(home === undefined ? '' : getCountryCallingCode(home))) {
    // Often written without the plus. In a country whose numbers vary in length it may be one at home, too.
    const abroad = parse(`+${digits}`, { extract: false });
    if (abroad?.isValid() === true) return abroad.number;
  }
  const parsed = parse(text, { ...(home && { defaultCountry: home }), extract: false });
  if (parsed?.isPossible() === true) return parsed.number;
  // 00 leads abroad nearly everywhere, and is written so by people whose country has it otherwise.
  const international = digits.replace(/^00/, '+');
  const again = parse(international, { extract: false });
  if (again?.isPossible() === true) return again.number;
  // A number of a country's older plan: WhatsApp may know it by it.
  return again !== undefined && /^\+[1-9]\d{7,14}$/.test(international) ? international : undefined;
}

/** The first number among other words: `mobile: 0151 1234567 (private)`. */
function among(text: string, home: CountryCode | undefined): string | undefined {
  const parsed = parse(text, home && { defaultCountry: home });
  return parsed?.isPossible() === true ? parsed.number : undefined;
}
