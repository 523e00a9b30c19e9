const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/** What the upstream, like Go, writes for a time that is not set. */
const ZERO_TIME = '0001-01-01T00:00:00';

const DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * A time of the upstream as Postgres shall store it (R5): RFC 3339 in UTC, cut after the sixth digit of the
 * second, because Postgres would round. Null means "not set"; undefined that the text is no such time, or one
 * outside the years 1 to 9999. Checked here and not left to Postgres, whose input takes `now` or `infinity`.
 */
export function parseTime(text: string): string | null | undefined {
  if (text === '') return null;
  const plain = plainUtc(text);
  if (plain !== undefined) return plain;
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const year = Number(match[1]);
  const month = Number(match[2]);
  const day = Number(match[3]);
  const hour = Number(match[4]);
  const minute = Number(match[5]);
  const second = Number(match[6]);
  const offset = (Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0)) * (match[8] === '-' ? -1 : 1);
  if (
    month < 1 ||
    month > 12 ||
    day < 1 ||
    day > DAYS[month - 1]! ||
    hour > 23 ||
    minute > 59 ||
    second > 60
  ) {
    return undefined;
  }
  if (Number(match[9] ?? 0) > 23 || Number(match[10] ?? 0) > 59) return undefined;
  if (month === 2 && day === 29 && !isLeap(year)) return undefined;
  const whole =
    offset === 0 && second < 60
      ? `${match[1]}-${match[2]}-${match[3]}T${match[4]}:${match[5]}:${match[6]}`
      : shifted(year, month, day, hour, minute - offset, second);
  if (whole === undefined || whole.startsWith('0000')) return undefined;
  const fraction = (match[7] ?? '').slice(0, 6).replace(/0+$/, '');
  if (whole === ZERO_TIME && fraction === '') return null;
  return fraction === '' ? `${whole}Z` : `${whole}.${fraction}Z`;
}

function isLeap(year: number): boolean {
  return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
}

/** Moves a time to UTC, and a leap second to the second after it, as Postgres does. */
function shifted(y: number, mo: number, d: number, h: number, mi: number, s: number): string | undefined {
  const date = new Date(0);
  date.setUTCFullYear(y, mo - 1, d);
  date.setUTCHours(h, mi, s);
  const shiftedYear = date.getUTCFullYear();
  return shiftedYear >= 1 && shiftedYear <= 9999 ? date.toISOString().slice(0, 19) : undefined;
}

const ZERO = 48;
const SECONDS_END = 19;
const MICROSECONDS_END = 26;

/**
 * A time that is written as `2026-11-01T10:00:00Z`, with any fraction: nearly every one that comes is, and the pattern
 * above costs ten times as much. Undefined for any other.
 */
function plainUtc(text: string): string | null | undefined {
  const end = text.length - 1;
  if (text.charCodeAt(end) !== 90) return undefined;
  if (text[4] !== '-' || text[7] !== '-' || text[10] !== 'T' || text[13] !== ':' || text[16] !== ':') {
    return undefined;
  }
  const year = digits(text, 0, 4);
  const month = digits(text, 5, 2);
  const day = digits(text, 8, 2);
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > DAYS[month - 1]!) return undefined;
  if (month === 2 && day === 29 && !isLeap(year)) return undefined;
  const hour = digits(text, 11, 2);
  const minute = digits(text, 14, 2);
  const second = digits(text, 17, 2);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return undefined;
  let last = SECONDS_END;
  if (end > SECONDS_END) {
    const count = end - SECONDS_END - 1;
    if (text[SECONDS_END] !== '.' || count < 1 || digits(text, SECONDS_END + 1, count) < 0) return undefined;
    // One instant, one text: without zeros at the end.
    last = Math.min(end, MICROSECONDS_END);
    while (text.charCodeAt(last - 1) === ZERO) last--;
    if (last === SECONDS_END + 1) last = SECONDS_END;
  }
  if (last === SECONDS_END && text.startsWith(ZERO_TIME)) return null;
  return last === end ? text : `${text.slice(0, last)}Z`;
}

/** The number that so many digits make; −1 where they are none. */
function digits(text: string, at: number, count: number): number {
  let value = 0;
  for (let i = at; i < at + count; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
