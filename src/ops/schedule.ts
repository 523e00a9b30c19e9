import { createTask, parse, type ScheduledTask } from 'node-cron';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How far a time is looked for, in milliseconds. */
const HORIZON = 40 * DAY;

/**
 * The times at which something is due, in node-cron's form, in UTC. Milliseconds since 1970 throughout. node-cron's own
 * timer is not used: it drops what it wakes a second too late for, and where the clock is put forward it goes through
 * every time in between, for minutes where that is years.
 */
export class Schedule {
  /** Says of a midnight whether that day has such times; they are the same on each. */
  readonly #days: ScheduledTask;
  /** Since midnight, in milliseconds, in order. */
  readonly #times: readonly number[];

  /** @throws Error for what node-cron's `validate` refuses. */
  constructor(cron: string) {
    const { second, minute, hour, dayOfMonth, month, dayOfWeek } = parse(cron);
    this.#days = createTask(`0 0 0 ${dayOfMonth} ${month} ${dayOfWeek}`, () => {}, { timezone: 'UTC' });
    this.#times = hour
      .flatMap((h) => minute.flatMap((m) => second.map((s) => h * HOUR + m * MINUTE + s * SECOND)))
      .sort((a, b) => a - b);
  }

  /** When it was last due, up to now; 0 where that is over forty days ago. */
  last(now: number): number {
    const today = now - (now % DAY);
    for (let day = today; day >= now - HORIZON; day -= DAY) {
      const time = this.#has(day) ? this.#times.findLast((one) => day + one <= now) : undefined;
      if (time !== undefined) return day + time;
    }
    return 0;
  }

  /** When it is due next, after now; in forty days where that is further away. */
  next(now: number): number {
    const today = now - (now % DAY);
    for (let day = today; day <= now + HORIZON; day += DAY) {
      const time = this.#has(day) ? this.#times.find((one) => day + one > now) : undefined;
      if (time !== undefined) return day + time;
    }
    return now + HORIZON;
  }

  #has(midnight: number): boolean {
    return this.#days.match(new Date(midnight));
  }
}
