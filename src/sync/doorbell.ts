import { Alarm } from '../lib/wait.ts';

/** Events begin no turn sooner than this after the last one, in milliseconds: many at once make few polls. */
export const EVENT_SPACING = 100;

/**
 * Ends a loop's rest when something is announced, but not sooner than the last turn allows: what failed has its
 * Retry-After (R13), and many events shall make few polls. None is lost by that.
 */
export class Doorbell {
  readonly #alarm = new Alarm();
  /** A reading of the monotonic clock. */
  #deafUntil = 0;
  #urgent = false;
  /** When it rang last, and when the last poll began that has gone well; readings of the monotonic clock. */
  #rungAt = Number.NEGATIVE_INFINITY;
  #polledSince = 0;

  /** Something was announced. */
  ring(): void {
    this.#rungAt = performance.now();
    this.#alarm.ring();
  }

  /** Ends the rest at once, for a reason of the loop's own. */
  shake(): void {
    this.#urgent = true;
    this.#alarm.ring();
  }

  /** Events end no rest for `ms` milliseconds from now. */
  deafen(ms: number): void {
    this.#deafUntil = performance.now() + ms;
  }

  /** A poll has gone well. @param since when its request began: a page that came ahead tells nothing of what was
   * announced after that. */
  answered(since: number): void {
    this.#polledSince = since;
  }

  /** Whether something was announced that no poll has looked for yet. */
  get isOwed(): boolean {
    return this.#rungAt >= this.#polledSince;
  }

  /** Rests for `ms` milliseconds, until it rings or until the signal.
   * @returns false where the signal ended it; never throws. */
  async rest(ms: number, signal: AbortSignal): Promise<boolean> {
    const until = performance.now() + ms;
    for (let pause = ms; ; pause = Math.min(until, this.#deafUntil) - performance.now()) {
      const ended = await this.#alarm.sleep(pause, signal);
      if (ended === 'aborted') return false;
      if (ended === 'elapsed' || this.#urgent || performance.now() >= this.#deafUntil) break;
    }
    this.#urgent = false;
    return true;
  }
}
