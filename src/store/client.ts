import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import pg from 'pg';
import { CONNECTION_LOST, NO_CONNECTION, NO_PASSWORD } from '../errors/codes.ts';
import { codeOf, noteOfPostgres, sqlstate } from '../errors/errors.ts';
import { passwordFromFile } from './passfile.ts';

type Callback = ((error: Error) => void) | ((error: null, client: pg.Client) => void);

type StartupParameters = Readonly<Record<string, string>>;

/** What pg has and its types do not tell. */
const proto = pg.Client.prototype as unknown as { getStartupConf(): StartupParameters };

/** SQLSTATEs by which a server ends a session that has begun. */
const ENDS_THE_SESSION = /^(57P|25P0[34])/;

/**
 * pg's client, whose failures all have a code, and are known for Postgres' (`recognize`): pg tells by text alone that a
 * password is missing, that the server has no TLS, that no answer came in time, or that the connection was cut.
 * A password that is nowhere else is looked for in libpq's password file when the server wants one: pg, which would do
 * it too, warns that it will stop to.
 */
export class PgClient extends pg.Client {
  #askedForPassword = false;
  #over = false;
  /** Why the server ended the session, by its SQLSTATE: what fails after that would not tell. */
  #endedFor: string | undefined;

  constructor(config?: string | pg.ClientConfig) {
    super(config);
    // As pg.ClientConfig has it; there, a URL without a password would take it away again.
    if (!this.password) Object.assign(this, { password: () => this.#passwordFromFile() });
    for (const way of ['CleartextPassword', 'MD5Password', 'SASL']) {
      this.#insides.once(`authentication${way}`, () => {
        this.#askedForPassword = true;
      });
    }
    // An override would have to repeat the many forms of it.
    const query = this.query as (...args: unknown[]) => unknown;
    this.query = ((...args: unknown[]) => {
      const result = query.apply(this, args);
      return result instanceof Promise ? result.catch((error: unknown) => this.#fail(error)) : result;
    }) as typeof this.query;
  }

  get #insides(): EventEmitter & { readonly stream: Socket } {
    return (this as unknown as { connection: EventEmitter & { readonly stream: Socket } }).connection;
  }

  override connect(): Promise<pg.Client>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.Client> | undefined {
    if (callback === undefined) {
      return super.connect().catch((error: unknown) => {
        throw this.#refused(error);
      });
    }
    const told = callback as (error: Error | null, client: pg.Client) => void;
    super.connect((error?: Error | null) => told(error ? this.#refused(error) : null, this));
    return undefined;
  }

  /**
   * What pg greets the server with, and what this program counts on whatever the role, the database or the server has
   * for a default: times and literals in one form. As parameters of the start-up, since those are the client's with a
   * pooler too; PgBouncer refuses `options`.
   */
  getStartupConf(): StartupParameters {
    return { ...proto.getStartupConf.call(this), DateStyle: 'ISO', standard_conforming_strings: 'on' };
  }

  /** What is told of a connection that is lost while no statement runs on it. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'end' || event === 'error') this.#over = true;
    return super.emit(event, ...(event === 'error' ? [this.#coded(args[0])] : args));
  }

  #passwordFromFile(): Promise<string | undefined> {
    const { host, port, database = '', user = '' } = this;
    return passwordFromFile({ host, port, database, user });
  }

  #fail(error: unknown): never {
    throw this.#coded(error);
  }

  /** Of a session that began. One that goes on had a statement that was not answered in time (query_timeout). */
  #coded(error: unknown): Error {
    const state = sqlstate(error) ?? '';
    if (ENDS_THE_SESSION.test(state)) this.#endedFor = state;
    const over = this.#over || this.#insides.stream.destroyed;
    if (over && this.#endedFor !== undefined && state === '') {
      // What the network says of a statement that was sent after the end (ECONNRESET, EPIPE) tells less.
      return Object.assign(coded(error, this.#endedFor), { code: this.#endedFor });
    }
    return coded(error, over ? CONNECTION_LOST : 'ETIMEDOUT');
  }

  /** Of one that did not begin. */
  #refused(error: unknown): Error {
    const refused = coded(error, this.#askedForPassword && !this.password ? NO_PASSWORD : NO_CONNECTION);
    // The server would wait for the password, and keep a connection for it, for a minute.
    this.#insides.stream.destroy();
    return refused;
  }
}

/** An error of Postgres, or of the way to it; with this code where it has none of its own. */
export function coded(error: unknown, code: string): Error {
  const known = error instanceof Error ? error : new Error('no error', { cause: error });
  noteOfPostgres(known);
  return codeOf(known) === 'Error' ? Object.assign(known, { code }) : known;
}
