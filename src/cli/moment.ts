import { InvalidArgumentError } from 'commander';
import { duration } from '../config/values.ts';

/** A time as an option has it: a date, with a time or without (UTC), or how long ago.
 * @throws InvalidArgumentError */
export function momentOf(text: string): Date {
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Date.now() - agoOf(text);
  if (Number.isNaN(at))
    throw new InvalidArgumentError('wants a duration such as 7d, or a date such as 2026-11-01');
  return new Date(at);
}

/** In milliseconds; NaN where it is no duration. */
function agoOf(text: string): number {
  try {
    return duration()(text);
  } catch {
    return Number.NaN;
  }
}
