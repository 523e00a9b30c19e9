import type { Kysely } from 'kysely';
import pLimit from 'p-limit';
import { remedyOf } from '../errors/remedies.ts';
import { Alarm } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { Database } from '../store/schema.ts';
import type { WindowStep } from '../store/status.ts';
import {
  noteGapAlert,
  noteWindowAlert,
  readOpenGaps,
  readWindow,
  type UntoldGap,
  type Windowed,
} from '../store/window.ts';
import type { Alert, SendAlert } from './alerts.ts';
import { Faults } from './faults.ts';
import { errorFields, type Logger } from './logger.ts';

/** What the upstream is about to forget, and what it forgot. */
export interface WindowAlarms {
  readonly window: readonly {
    readonly connection_id: ConnectionId;
    readonly step: WindowStep;
    readonly since: string;
    /** When the first of what is missing is lost. */
    readonly lost_from: string;
    readonly kind: string | null;
    readonly error: string | null;
    readonly what_to_do: string | null;
  }[];
  /** Gaps that nobody has acknowledged. */
  readonly gaps: number;
}

export interface WindowWatchOptions {
  readonly looks: Kysely<Database>;
  /** For what is noted of alerts that were sent. */
  readonly control: Kysely<Database>;
  readonly workerId: string;
  /** RETENTION_WINDOW in milliseconds. */
  readonly window: number;
  /** Undefined: alerts are only logged. */
  readonly send: SendAlert | undefined;
  readonly log: Logger;
  /** Between looks, in milliseconds. */
  readonly every?: number;
}

const EVERY = 30_000;
/** Alerts under way at a time. */
const SENDING = 4;

/**
 * Watches how much of the upstream's memory each connection has left (R17), by the database alone: neither a parked
 * connection nor one that nobody holds is passed over. Each step is told once, in the log and as an alert, by the worker
 * that holds the connection, or by any where none does. What was sent is in the database, so that a restart repeats
 * nothing; an alert that could not be sent is tried again at the next look.
 */
export class WindowWatch {
  readonly #options: WindowWatchOptions;
  readonly #logged = new Map<ConnectionId, WindowStep | null>();
  readonly #sending = new Map<string, Promise<void>>();
  /** The types of alerts that were sent and not noted yet: where Postgres is read-only none is sent at each look. */
  readonly #unnoted = new Map<string, Alert['type']>();
  readonly #limit = pLimit(SENDING);
  readonly #alarm = new Alarm();
  #alarms: WindowAlarms = { window: [], gaps: 0 };
  readonly #faults = new Faults('reading the window');

  constructor(options: WindowWatchOptions) {
    this.#options = options;
  }

  /** As of the last look. */
  get alarms(): WindowAlarms {
    return this.#alarms;
  }

  /** Looks now instead of at the next look: a gap was recorded. */
  lookNow(): void {
    this.#alarm.ring();
  }

  /** Looks until the signal. A database that is out of reach is told of elsewhere. */
  async watch(signal: AbortSignal): Promise<void> {
    const { every = EVERY } = this.#options;
    while (!signal.aborted) {
      try {
        await this.look(signal);
        this.#faults.over();
      } catch (error) {
        const fault = this.#faults.note(error);
        if (fault !== undefined) this.#options.log.error(fault, 'cannot watch the window');
      }
      await this.#alarm.sleep(every, signal);
    }
    await Promise.allSettled(this.#sending.values());
  }

  /** Looks once, and begins to send what is to be sent. */
  async look(signal: AbortSignal): Promise<void> {
    const { looks, control, window, workerId } = this.#options;
    const [all, gaps] = await Promise.all([readWindow(looks, window), readOpenGaps(looks)]);
    this.#alarms = {
      window: all.flatMap((one) => (one.step === null ? [] : [{ ...this.#tell(one), step: one.step }])),
      gaps: gaps.open,
    };
    const isOurs = ({ worker }: { worker: string | null }) => worker === null || worker === workerId;
    const ours = all.filter(isOurs);
    // What becomes of the others is logged by whoever has them, and where it stands when they come back is in the database.
    const ids = new Set(ours.map(({ connectionId }) => connectionId));
    for (const id of this.#logged.keys()) {
      if (ids.has(id)) continue;
      this.#logged.delete(id);
      this.#unnoted.delete(windowKey(id));
    }
    for (const one of ours) {
      const { connectionId, step, told } = one;
      this.#log(one);
      if (step === told) continue;
      this.#send(
        windowKey(connectionId),
        this.#alertOf(one),
        () => noteWindowAlert(control, connectionId, step),
        signal,
      );
    }
    for (const gap of gaps.untold.filter(isOurs)) {
      this.#send(`gap ${gap.id}`, gapAlert(gap), () => noteGapAlert(control, gap), signal);
    }
  }

  #tell({ connectionId, since, errorKind, error }: Windowed) {
    return {
      connection_id: connectionId,
      since: since.toISOString(),
      lost_from: new Date(since.getTime() + this.#options.window).toISOString(),
      kind: errorKind,
      error,
      what_to_do: errorKind === null ? null : (remedyOf({ kind: errorKind, message: error }) ?? null),
    };
  }

  #log(one: Windowed): void {
    const { log } = this.#options;
    const { connectionId, step, told } = one;
    const before = this.#logged.has(connectionId) ? this.#logged.get(connectionId) : told;
    this.#logged.set(connectionId, step);
    if (step === before) return;
    const fields = this.#tell(one);
    if (step === 'error')
      log.error(fields, 'less than a quarter of the window is left: what is missing will be lost');
    else if (step === 'warn') log.warn(fields, 'less than half of the window is left');
    else log.info({ connection_id: connectionId }, 'the window is wide again');
  }

  #alertOf(one: Windowed): Alert {
    const { connectionId, step, lag } = one;
    const { connection_id: _, ...told } = this.#tell(one);
    const left = Math.round(this.#options.window / 1000 - lag);
    const payload = { ...told, lag_seconds: Math.round(lag), window_left_seconds: left };
    const type = step === null ? 'recovered' : step === 'warn' ? 'warning' : 'error';
    return { type: `window.${type}`, connectionId, payload };
  }

  /** Never waited for: whoever receives alerts cannot hold up anything. */
  #send(key: string, alert: Alert, note: () => Promise<void>, signal: AbortSignal): void {
    const { send, log } = this.#options;
    if (this.#sending.has(key)) return;
    const work = async () => {
      try {
        if (this.#unnoted.get(key) !== alert.type) await send?.(alert, signal);
        this.#unnoted.set(key, alert.type);
        await note();
        this.#unnoted.delete(key);
      } catch (error) {
        if (!signal.aborted) log.warn({ alert: alert.type, ...errorFields(error) }, 'cannot send an alert');
      } finally {
        this.#sending.delete(key);
      }
    };
    this.#sending.set(key, this.#limit(work));
  }
}

function windowKey(connectionId: ConnectionId): string {
  return `window ${connectionId}`;
}

function gapAlert({ connectionId, from, to }: UntoldGap): Alert {
  const payload = { lost_from: from.toISOString(), lost_to: to.toISOString() };
  return { type: 'gap.recorded', connectionId, payload };
}
