import { setTimeout as sleep } from 'node:timers/promises';

/** The longest pause that a slow condition gets. */
const MOST_MS = 100;

export interface WaitOptions {
  /** Completes the sentence "waited for …". */
  readonly what: string;
  /** Generous: it ends a test that fails, and is no part of what is asserted, but where that is a bound. */
  readonly deadlineMs?: number;
  readonly everyMs?: number;
}

/**
 * Polls the condition until it gives something truthy, and returns that. A condition that throws is asked
 * again; its last error is the cause of the failure at the deadline. One that takes long to ask is asked less often, so
 * that waiting takes little from what is waited for.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { what, deadlineMs = 45_000, everyMs = 20 }: WaitOptions,
): Promise<NonNullable<T>> {
  const started = performance.now();
  let last: unknown;
  for (;;) {
    const asked = performance.now();
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    const now = performance.now();
    const waited = now - started;
    if (waited >= deadlineMs) {
      throw new Error(
        `waited ${Math.round(waited)} ms in vain for ${what}`,
        last === undefined ? {} : { cause: last },
      );
    }
    const pause = Math.max(everyMs, Math.min(MOST_MS, 2 * (now - asked)));
    await sleep(Math.min(pause, deadlineMs - waited));
  }
}
