import { sleep } from '../lib/wait.ts';
import type { ApiKey } from '../upstream/api-key.ts';

/** Spaces the requests of verifications, so that they stay few for the upstream: VERIFY_RATE a second and key. */
export class VerifyPace {
  readonly #spacing: number;
  readonly #processes: () => number;
  readonly #nextAt = new Map<ApiKey, number>();

  /**
   * @param rate requests a second and key, of all processes together.
   * @param processes among how many the rate is shared.
   */
  constructor(rate: number, processes: () => number = () => 1) {
    this.#spacing = 1000 / rate;
    this.#processes = processes;
  }

  /** Waits for the key's next turn.
   * @throws the signal's reason where it is aborted first. */
  async turn(key: ApiKey, signal: AbortSignal): Promise<void> {
    const now = performance.now();
    const at = Math.max(now, this.#nextAt.get(key) ?? 0);
    this.#nextAt.set(key, at + this.#spacing * this.#processes());
    await sleep(at - now, signal);
    signal.throwIfAborted();
  }
}
