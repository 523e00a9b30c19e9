import { Counter, Gauge, type Registry } from 'prom-client';
import type { MediaListener } from '../media/events.ts';
import type { MediaCounts } from '../store/media-report.ts';

export interface MediaMetrics {
  readonly listen: MediaListener;
  /** @param counts undefined where they are not known, or nothing is kept. */
  set(counts: readonly MediaCounts[] | undefined): void;
}

const STATES = ['pending', 'stored', 'unavailable', 'failed'] as const;
const OUTCOMES = ['stored', 'unavailable', 'failed', 'delayed'] as const;

/** The metrics of attachments. */
export function createMediaMetrics(registry: Registry): MediaMetrics {
  const registers = [registry];
  const plain = (name: string, help: string) => new Gauge({ name, help, registers });
  const downloads = new Counter({
    name: 'wa_replica_media_downloads_total',
    help: 'Attachments that were asked for, by outcome (stored, unavailable, failed, delayed: tried again).',
    labelNames: ['outcome'] as const,
    registers,
  });
  for (const outcome of OUTCOMES) downloads.inc({ outcome }, 0);
  const downloaded = new Counter({
    name: 'wa_replica_media_downloaded_bytes_total',
    help: 'Bytes of the attachments that were stored.',
    registers,
  });
  const errors = new Counter({
    name: 'wa_replica_media_errors_total',
    help: 'What hindered attachments, by kind of error.',
    labelNames: ['kind'] as const,
    registers,
  });
  const up = plain(
    'wa_replica_media_up',
    '0 while the store or the database hinders all attachments, else 1.',
  );
  const rows = new Gauge({
    name: 'wa_replica_media',
    help: 'Attachments by state (pending, stored, unavailable, failed).',
    labelNames: ['state'] as const,
    registers,
  });
  const bytes = plain(
    'wa_replica_media_bytes',
    'Bytes of the stored attachments, shared files counted each time.',
  );
  const oldest = plain(
    'wa_replica_media_oldest_pending_seconds',
    'Age of the oldest message whose attachment is waited for, in seconds; 0 where there is none.',
  );
  const known = [bytes, oldest];
  up.set(1);
  return {
    listen(event) {
      if (event.type === 'stored') {
        downloads.inc({ outcome: 'stored' });
        downloaded.inc(event.bytes);
      } else if (event.type === 'gone') downloads.inc({ outcome: event.state });
      else if (event.type === 'again') downloads.inc({ outcome: 'delayed' });
      // What is not there hindered nothing.
      if ('error' in event && !(event.type === 'gone' && event.state === 'unavailable')) {
        errors.inc({ kind: event.error.kind });
      }
      if (event.type === 'stopped') up.set(0);
      if (event.type === 'resumed') up.set(1);
    },
    set(counts) {
      rows.reset();
      for (const gauge of known) gauge.remove();
      if (counts === undefined) return;
      const sum = (of: (one: MediaCounts) => string | number) =>
        counts.reduce((total, one) => total + Number(of(one)), 0);
      for (const state of STATES)
        rows.set(
          { state },
          sum((one) => one[state]),
        );
      bytes.set(sum((one) => one.bytes));
      oldest.set(Math.max(0, ...counts.map((one) => one.oldest_pending_seconds)));
    },
  };
}
