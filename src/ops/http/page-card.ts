import { remedyOf } from '../../errors/remedies.ts';
import { humanDuration, roughDuration } from '../../lib/durations.ts';
import { plural } from '../../lib/plural.ts';
import type { ConnectionState, ConnectionStatus } from '../../store/status.ts';

/** What a state means, in a word or two. */
const STATES: Record<ConnectionState, string> = {
  starting: 'starting',
  catching_up: 'catching up',
  live: 'live',
  backing_off: 'retrying',
  parked: 'needs you',
  stalled: 'stalled',
  removed: 'removed',
};

/** Text as HTML shows it, and as nothing else. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (char) => entities[char]!);
}

/**
 * Whether it does not replicate, and should: it is parked or stalled, or late without being on its way. A backlog is
 * that only in the hands of a worker; a connection that nobody asks for keeps the state that it had.
 */
export function isDown({ state, worker, lag_seconds }: ConnectionStatus, lateAfter: number): boolean {
  if (state === 'removed') return false;
  if (state === 'stalled' || state === 'parked') return true;
  const onItsWay = worker !== null && (state === 'catching_up' || state === 'starting');
  return lag_seconds * 1000 > lateAfter && !onItsWay;
}

/** The card of one connection, as HTML: a list item. */
export function card(status: ConnectionStatus, minutes: readonly number[], lateAfter: number): string {
  const { rows, state } = status;
  const down = isDown(status, lateAfter);
  const leftClass = { error: 'alarm', warn: 'warn', none: '' }[status.window_alarm ?? 'none'];
  const idle = status.worker === null && state !== 'removed' ? ', no worker has it' : '';
  const notes = [problem(status), gaps(status), quarantined(status)].join('');
  const others = `${counted(rows.conversations, 'conversation')}, ${counted(rows.contacts, 'contact')}`;
  const classes = [state, isFine(status) && !down ? 'fine' : 'odd', ...(down ? ['down'] : [])].join(' ');
  const now = state === 'live' && down ? 'was live' : STATES[state];
  // What is removed is not fetched any more.
  const left =
    state === 'removed'
      ? ''
      : `<div><dt>behind</dt><dd${down ? ' class="alarm"' : ''}>${humanDuration(status.lag_seconds)}</dd></div>
<div><dt>window left</dt><dd class="${leftClass}">${humanDuration(status.window_left_seconds)}</dd></div>
`;
  return `<li class="card ${classes}" tabindex="0">
<h2>${escapeHtml(status.connection_id)}</h2>
<p class="state"><span class="dot" aria-hidden="true"></span>${now}${idle}</p>
${notes}<dl>
${left}<div><dt>messages</dt><dd>${grouped(rows.messages)}</dd></div>
<div><dt>verified</dt><dd>${verified(status)}</dd></div>
</dl>
<p class="parts">${others}</p>
${sparkline(minutes)}
</li>`;
}

/** Whether there is nothing that somebody should see to, or wait for. */
export function isFine(status: ConnectionStatus): boolean {
  const { state, last_error_kind, gaps: open, quarantined: aside, window_alarm } = status;
  if (state === 'removed') return true;
  const untroubled = last_error_kind === null && open === '0' && aside === '0' && window_alarm === null;
  return state === 'live' && untroubled && isWhole(status);
}

/** Whether the last verification, if there was one, found nothing amiss. */
function isWhole({ verification }: ConnectionStatus): boolean {
  if (verification === null) return true;
  return (
    verification.state !== 'failed' && verification.remaining === '0' && verification.ledger_problems === 0
  );
}

/** What the last verification found. */
function verified(status: ConnectionStatus): string {
  const { verification } = status;
  if (verification === null) return 'never';
  const { state, remaining, finished_at } = verification;
  const at = `${roughDuration(Math.max(0, Date.now() - Date.parse(finished_at)) / 1000)} ago`;
  if (isWhole(status)) return `${at}, whole`;
  if (state === 'failed') return `<span class="warn">${at}, failed</span>`;
  const what = remaining === '0' ? 'the ledger is not whole' : `${grouped(remaining)} differ`;
  return `<span class="alarm">${at}, ${what}</span>`;
}

/** What could not be stored. */
function quarantined({ quarantined: open }: ConnectionStatus): string {
  if (open === '0') return '';
  return `<p class="problem warn">${grouped(open)} in quarantine<br><strong>see wa-replica quarantine list</strong></p>`;
}

/** What was lost for good, until somebody has seen it. */
function gaps({ gaps: open }: ConnectionStatus): string {
  if (open === '0') return '';
  return `<p class="problem">${counted(open, 'gap')}: the upstream forgot messages before they were replicated<br><strong>see wa-replica gaps list</strong></p>`;
}

function problem(status: ConnectionStatus): string {
  if (status.last_error_kind === null || status.state === 'removed') return '';
  const what = remedyOf({ kind: status.last_error_kind, message: status.last_error });
  const advice = what === undefined ? '' : `<br><strong>${escapeHtml(what)}</strong>`;
  const text = `${status.last_error_kind}: ${status.last_error ?? ''}`;
  const failures = counted(status.consecutive_failures, 'failure');
  return `<p class="problem">${escapeHtml(text)}, ${failures} in a row${advice}</p>`;
}

/** Records per minute over the last hour, as a line. */
function sparkline(minutes: readonly number[]): string {
  const most = Math.max(0, ...minutes);
  const sum = minutes.reduce((a, b) => a + b, 0);
  if (sum === 0) return '<p class="parts">last hour: nothing came</p>';
  const step = 236 / Math.max(1, minutes.length - 1);
  const points = minutes
    .map((count, i) => `${(i * step).toFixed(0)},${(30 - (count / Math.max(1, most)) * 28).toFixed(1)}`)
    .join(' ');
  const label = `last hour: ${counted(sum, 'record')}, peak ${grouped(most)}/min`;
  return `<svg class="spark" viewBox="0 0 236 32" preserveAspectRatio="none" role="img" aria-label="${label}"><polyline points="${points}"/></svg>
<p class="parts">${label}</p>`;
}

/** @param count a number, or an int64 as text. */
export function counted(count: number | string, noun: string): string {
  return plural(grouped(count), noun);
}

function grouped(count: number | string): string {
  return BigInt(count).toLocaleString('en');
}
