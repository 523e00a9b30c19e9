/** Something that happens so many times a second, until it is stopped. */

export interface Ticking {
  stop(): void;
}

const INTERVAL_MS = 20;

/** Calls `act` with how many are due by the clock, so that a late timer catches up (by a second at most). */
export function startTicking(perSecond: number, act: (count: number) => void): Ticking {
  if (!(perSecond > 0)) return { stop() {} };
  let last = performance.now();
  let due = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    due += (Math.min(now - last, 1000) / 1000) * perSecond;
    last = now;
    const count = Math.floor(due);
    due -= count;
    if (count > 0) act(count);
  }, INTERVAL_MS);
  return {
    stop() {
      clearInterval(timer);
    },
  };
}
