import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import pg from 'pg';
import { codeOf, NO_CONNECTION, NO_PASSWORD } from '../errors.ts';

type Callback = ((error: Error) => void) | ((error: null, client: pg.Client) => void);

/**
 * pg's client, whose failures to connect all have a code: pg tells by text alone that a password is missing, that the
 * server has no TLS, or that no answer came in time.
 */
export class PgClient extends pg.Client {
  #askedForPassword = false;

  constructor(config?: string | pg.ClientConfig) {
    super(config);
    for (const way of ['CleartextPassword', 'MD5Password', 'SASL']) {
      this.#insides.once(`authentication${way}`, () => {
        this.#askedForPassword = true;
      });
    }
  }

  get #insides(): EventEmitter & { readonly stream: Socket } {
    return (this as unknown as { connection: EventEmitter & { readonly stream: Socket } }).connection;
  }

  override connect(): Promise<pg.Client>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.Client> | undefined {
    if (callback === undefined) {
      return super.connect().catch((error: unknown) => {
        throw this.#coded(error);
      });
    }
    const told = callback as (error: Error | null, client: pg.Client) => void;
    super.connect((error?: Error | null) => told(error ? this.#coded(error) : null, this));
    return undefined;
  }

  #coded(error: unknown): Error {
    const known = error instanceof Error ? error : new Error('connecting failed', { cause: error });
    if (codeOf(known) !== 'Error') return known;
    // The server would wait for the password, and keep a connection for it, for a minute.
    this.#insides.stream.destroy();
    const code = this.#askedForPassword && !this.password ? NO_PASSWORD : NO_CONNECTION;
    return Object.assign(known, { code });
  }
}
