import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** Completes the sentence "waited for …". */
  readonly what: string;
  readonly deadlineMs?: number;
  readonly everyMs?: number;
}

/**
 * Polls the condition until it gives something truthy, and returns that. A condition that throws is asked
 * again; its last error is the cause of the failure at the deadline.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { what, deadlineMs = 10_000, everyMs = 20 }: WaitOptions,
): Promise<NonNullable<T>> {
  const started = performance.now();
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    const waited = performance.now() - started;
    if (waited >= deadlineMs) {
      throw new Error(
        `waited ${Math.round(waited)} ms in vain for ${what}`,
        last === undefined ? {} : { cause: last },
      );
    }
    await sleep(Math.min(everyMs, deadlineMs - waited));
  }
}
