import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { errorFields, type Logger } from './logger.ts';

/**
 * The notify protocol of systemd (sd_notify(3)). Node has no datagram sockets of the Unix family, so messages go
 * through systemd's own `systemd-notify`, which waits until each is received; the unit needs NotifyAccess=all for it.
 */
export interface Notifier {
  /** Sends assignments such as `READY=1`; a failure is logged, never thrown. */
  send(...assignments: string[]): Promise<void>;
  /** How often systemd wants a sign of life, in milliseconds; undefined: not at all. */
  readonly watchdog: number | undefined;
}

const run = promisify(execFile);

/** A notifier where systemd started the process and wants to hear of it (`NOTIFY_SOCKET`). */
export function createNotifier(
  env: Readonly<Record<string, string | undefined>>,
  log: Logger,
): Notifier | undefined {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, PATH } = env;
  if (!NOTIFY_SOCKET) return undefined;
  let told = false;
  return {
    watchdog: WATCHDOG_USEC && /^[1-9]\d*$/.test(WATCHDOG_USEC) ? Number(WATCHDOG_USEC) / 1000 : undefined,
    async send(...assignments) {
      try {
        await run('systemd-notify', assignments, { env: { PATH, NOTIFY_SOCKET }, timeout: 5_000 });
        told = false;
      } catch (error) {
        if (!told) log.warn(errorFields(error), 'cannot notify systemd');
        told = true;
      }
    },
  };
}

/** How often a start that takes long asks for more time, and for how much, in milliseconds. */
const EXTEND_EVERY = 10_000;
const EXTEND_BY = 60_000;
/** How often the status line is renewed where there is no watchdog, in milliseconds. */
const STATUS_EVERY = 30_000;

export interface ServiceOptions {
  /** False where a loop is hung: systemd gets no sign of life then, and starts the service again. */
  readonly healthy: () => boolean;
  /** What `systemctl status` shows, in one line. */
  readonly status: () => string;
}

/** Tells systemd where the service stands. */
export class Service {
  readonly #notifier: Notifier | undefined;
  readonly #options: ServiceOptions;
  #timer: NodeJS.Timeout | undefined;

  constructor(notifier: Notifier | undefined, options: ServiceOptions) {
    this.#notifier = notifier;
    this.#options = options;
  }

  /** The start may take long (a migration): systemd waits as long as this is alive. */
  starting(): void {
    const extend = () =>
      void this.#notifier?.send(`EXTEND_TIMEOUT_USEC=${EXTEND_BY * 1000}`, 'STATUS=preparing the schema');
    extend();
    this.#every(EXTEND_EVERY, extend);
  }

  /** The service is up; from now on signs of life. */
  async ready(): Promise<void> {
    if (this.#notifier === undefined) return;
    await this.#notifier.send('READY=1', `STATUS=${this.#options.status()}`);
    const { watchdog } = this.#notifier;
    this.#every(watchdog === undefined ? STATUS_EVERY : watchdog / 3, () => this.tell());
  }

  /** A sign of life, with the status as it is now. */
  tell(): void {
    const alive = this.#options.healthy() ? ['WATCHDOG=1'] : [];
    void this.#notifier?.send(...alive, `STATUS=${this.#options.status()}`);
  }

  /** The service ends, with this long for it, in milliseconds. */
  async stopping(timeout: number): Promise<void> {
    clearInterval(this.#timer);
    await this.#notifier?.send(
      'STOPPING=1',
      `EXTEND_TIMEOUT_USEC=${Math.round(timeout * 1000)}`,
      'STATUS=stopping',
    );
  }

  /** Nothing more is sent. */
  end(): void {
    clearInterval(this.#timer);
  }

  #every(ms: number, tell: () => void): void {
    clearInterval(this.#timer);
    if (this.#notifier === undefined) return;
    this.#timer = setInterval(tell, ms);
    this.#timer.unref();
  }
}
