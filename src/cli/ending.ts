import { sleep } from '../lib/wait.ts';

/** How long the end of a process takes that is told to exit at once, in milliseconds. */
const EXIT_TAKES = 100;

/**
 * Ends the process in time after the signal, whatever still hangs then (R16). All that takes long at the end has a bound
 * of its own; this is for the sum of them where the machine is slow.
 * @param within milliseconds.
 */
export function endAnyway(signal: AbortSignal, within: number): void {
  const end = () => setTimeout(() => process.exit(), within - EXIT_TAKES).unref();
  signal.addEventListener('abort', end, { once: true });
}

/** Aborted so many milliseconds after the signal, for the same reason, unless all is done. */
export function endOfGrace(signal: AbortSignal, ms: number, done: AbortSignal): AbortSignal {
  const late = new AbortController();
  const wait = async () => {
    await sleep(ms, done);
    if (!done.aborted) late.abort(signal.reason);
  };
  if (signal.aborted) void wait();
  else signal.addEventListener('abort', () => void wait(), { once: true, signal: done });
  return late.signal;
}
