import type { Connection } from './connection.ts';
import { type SyncAnswer, syncAnswer } from './sync.ts';

interface Kept {
  readonly newest: bigint;
  readonly answers: Map<string, SyncAnswer>;
}

/**
 * Sync answers that were made once, for as long as their connection does not change: where what is measured shares the
 * machine, an upstream that makes the same pages again in every round takes from it what a real one would not.
 */
export class KeptAnswers {
  readonly #bytes: number;
  #used = 0;
  readonly #kept = new Map<Connection, Kept>();

  /** @param bytes how much is kept, at most; what comes later is made each time. */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  answer(connection: Connection, cursor: bigint, limit: number): SyncAnswer {
    if (this.#bytes === 0) return syncAnswer(connection, cursor, limit);
    const { newest } = connection.log;
    let kept = this.#kept.get(connection);
    if (kept?.newest !== newest) {
      kept = { newest, answers: new Map() };
      this.#kept.set(connection, kept);
    }
    const name = `${cursor} ${limit}`;
    const known = kept.answers.get(name);
    if (known !== undefined) return known;
    const made = syncAnswer(connection, cursor, limit);
    const body = Buffer.from(made.body);
    if (this.#used + body.length > this.#bytes) return made;
    this.#used += body.length;
    const answer = { ...made, body };
    kept.answers.set(name, answer);
    return answer;
  }
}
