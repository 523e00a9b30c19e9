import { createHmac } from 'node:crypto';
import { identifier } from './identifiers.ts';

/** ERASURE_KEY: what was erased is recognized by hashes under it, and by nobody who has the database alone. */
export class ErasureKey {
  readonly #key: string;
  /** Tells keys apart, and nothing of the key; kept in the database. */
  readonly fingerprint: string;

  constructor(key: string) {
    this.#key = key;
    this.fingerprint = this.#hmac('wa-replica erasure key').toString('hex').slice(0, 32);
  }

  /** The hash of a record's id or of an identifier, in whichever form that was written (see {@link identifier}). */
  hash(value: string): Buffer {
    // Apart from the fingerprint, which no identifier may equal.
    return this.#hmac(`id ${identifier(value)}`);
  }

  #hmac(text: string): Buffer {
    return createHmac('sha256', this.#key).update(text).digest();
  }
}
