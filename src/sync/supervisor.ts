import type { ConnectionId } from '../model.ts';
import { claimLeases } from '../store/leases.ts';
import type { Worker, WorkerOptions } from './worker.ts';

/**
 * Keeps the worker's loops in step with the leases: claims what is free, until aborted; then drains.
 * @param connections the connections that this deployment replicates, asked anew at every claim.
 * @returns whether everything in hand was finished in time.
 */
export async function supervise(
  worker: Worker,
  options: WorkerOptions,
  connections: () => readonly ConnectionId[],
  signal: AbortSignal,
): Promise<boolean> {
  await worker.start(async () => {
    const wanted = connections().filter((id) => !worker.holds(id));
    if (wanted.length === 0) return;
    const claimedAt = performance.now();
    const leases = await claimLeases(options.control, worker.id, wanted, options.leaseTtl, wanted.length);
    for (const lease of leases) {
      // A loop ends by itself; it never throws but for a fault of this program, which must not pass unseen.
      worker.adopt(lease, claimedAt).catch((error: unknown) => {
        queueMicrotask(() => {
          throw error;
        });
      });
    }
  });
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  return await worker.stop();
}
