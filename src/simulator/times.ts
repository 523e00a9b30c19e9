/**
 * Instants as the upstream may write them: RFC 3339, mostly UTC, some with another offset, with none to nine
 * digits of a second. The vendor's document says only `date-time`.
 */
import { mix } from './random.ts';

/** "Not set", as a Go program writes a zero time. */
export const ZERO_TIME = '0001-01-01T00:00:00Z';

/** Minutes east of UTC; India and Nepal are not on the full hour. */
const OFFSETS = [120, -180, 330, 345, -570, 0] as const;

/** Powers of ten, by which a nine-digit fraction is cut. */
const CUT = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1] as const;

/**
 * @param seconds since the epoch.
 * @param salt decides fraction, digits and offset: the same instant of a record is always written the same way.
 */
export function rfc3339(seconds: number, salt: number): string {
  const chance = mix(seconds, salt);
  const digits = chance % 10;
  const fraction =
    digits === 0 ? '' : `.${nanos(seconds, salt).toString().padStart(9, '0').slice(0, digits)}`;
  if ((chance >>> 8) % 12 !== 0) return `${iso(seconds)}${fraction}Z`;
  const offset = OFFSETS[(chance >>> 16) % OFFSETS.length]!;
  const size = Math.abs(offset);
  const hours = String(Math.floor(size / 60)).padStart(2, '0');
  const minutes = String(size % 60).padStart(2, '0');
  return `${iso(seconds + offset * 60)}${fraction}${offset < 0 ? '-' : '+'}${hours}:${minutes}`;
}

/** The instant that `rfc3339` writes with these arguments, in milliseconds, cut. */
export function instantMs(seconds: number, salt: number): number {
  const digits = mix(seconds, salt) % 10;
  const cut = CUT[digits]!;
  return seconds * 1000 + Math.floor((Math.floor(nanos(seconds, salt) / cut) * cut) / 1e6);
}

function nanos(seconds: number, salt: number): number {
  return mix(seconds ^ 0x2545f491, salt) % 1_000_000_000;
}

const TWO = Array.from({ length: 60 }, (_, value) => String(value).padStart(2, '0'));
const days = new Map<number, string>();

/** `toISOString` to the second, with the dates remembered: pages hold thousands of times of the same few days. */
function iso(seconds: number): string {
  const day = Math.floor(seconds / 86_400);
  let date = days.get(day);
  if (date === undefined) {
    date = new Date(day * 86_400_000).toISOString().slice(0, 11);
    days.set(day, date);
  }
  const rest = seconds - day * 86_400;
  return `${date}${TWO[Math.floor(rest / 3600)]}:${TWO[Math.floor(rest / 60) % 60]}:${TWO[rest % 60]}`;
}
