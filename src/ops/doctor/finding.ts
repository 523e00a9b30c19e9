/** What a check found. */
export interface Finding {
  readonly level: 'ok' | 'warning' | 'problem';
  /** What was looked at, and how it stands. */
  readonly message: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export const ok = (message: string): Finding => ({ level: 'ok', message });
export const warning = (message: string, remedy: string): Finding => ({ level: 'warning', message, remedy });
export const problem = (message: string, remedy: string): Finding => ({ level: 'problem', message, remedy });
export const notLookedAt = (what: string): Finding =>
  warning(`${what}: not looked at`, 'mend the settings first');

/** Clocks may differ by so much, in milliseconds. */
const MAX_SKEW = 30_000;

/** Judges a clock against this machine's.
 * @param between readings of this machine's clock before and after the other was asked, in milliseconds since 1970. */
export function clockFinding(
  whose: string,
  theirs: number,
  [before, after]: readonly [number, number],
): Finding {
  const skew = theirs < before ? before - theirs : theirs > after ? theirs - after : 0;
  const seconds = Math.round(skew / 1000);
  return skew > MAX_SKEW
    ? warning(`clock: ${whose} is ${seconds} s away from this machine`, 'synchronise the clocks (NTP)')
    : ok(`clock: ${whose} agrees with this machine`);
}
