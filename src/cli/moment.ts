import { InvalidArgumentError } from 'commander';
import { duration } from '../config/values.ts';

/** A time as an option has it: a date, with a time or without, in UTC where it names no zone; or how long ago.
 * @throws InvalidArgumentError */
export function momentOf(text: string): Date {
  const date = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?) ?(Z|[+-]\d\d:?\d\d)?)?$/i.exec(
    text.trim(),
  );
  const at =
    date === null
      ? Date.now() - agoOf(text)
      : Date.parse(`${date[1]}T${date[2] ?? '00:00'}${date[3] ?? 'Z'}`);
  // Date.parse takes the 31st of February for the 3rd of March.
  if (Number.isNaN(at) || (date !== null && !isDay(date[1]!)))
    throw new InvalidArgumentError('a duration such as 7d is wanted, or a date such as 2026-11-01');
  return new Date(at);
}

function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

/** In milliseconds; NaN where it is no duration. */
function agoOf(text: string): number {
  try {
    return duration()(text);
  } catch {
    return Number.NaN;
  }
}
