/** The ids of a connection's records: they look random, are one-to-one with an index, and lead back to it. */
import { hex8, mix, scramble, unscramble } from './random.ts';

export type IdPrefix = 'msg' | 'cnv' | 'per';

export class Ids {
  readonly #salt: number;
  /** Tells the connections' ids apart. */
  readonly #mark: string;

  constructor(salt: number) {
    this.#salt = salt;
    this.#mark = hex8(salt).slice(0, 4);
  }

  id(prefix: IdPrefix, index: number): string {
    return `${prefix}_${this.#mark}${hex8(scramble(index, this.#salt))}`;
  }

  /** The id that WhatsApp itself gave a message. */
  waMessageId(index: number): string {
    return `3EB0${hex8(mix(index, this.#salt))}${hex8(scramble(index, this.#salt))}`;
  }

  /** The record in `list` that has this id. */
  find<T>(list: readonly T[], prefix: IdPrefix, id: string): T | undefined {
    if (!/^[a-z]{3}_[0-9a-f]{12}$/.test(id)) return undefined;
    const index = unscramble(Number.parseInt(id.slice(8), 16), this.#salt);
    return index < list.length && this.id(prefix, index) === id ? list[index] : undefined;
  }
}
