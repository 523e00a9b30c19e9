import { randomBytes } from 'node:crypto';
import { remedy } from '../../errors.ts';
import { humanDuration } from '../../lib/durations.ts';
import type { ConnectionState, ConnectionStatus } from '../../store/status.ts';
import type { StatusReport } from '../status.ts';
import { REFRESH, STYLE } from './page-assets.ts';

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

/** Those that need somebody come first. */
const ORDER: readonly ConnectionState[] = [
  'stalled',
  'parked',
  'backing_off',
  'catching_up',
  'starting',
  'live',
  'removed',
];

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
 * The one page: where every connection stands, at a glance. Shows no text of a message and no name of a person.
 * @param report undefined while the database is out of reach.
 * @param activity records per minute, by connection.
 */
export function renderPage(
  report: StatusReport | undefined,
  activity: ReadonlyMap<string, readonly number[]>,
): { html: string; headers: Record<string, string> } {
  const nonce = randomBytes(16).toString('base64');
  const policy = [
    "default-src 'none'",
    `style-src 'nonce-${nonce}'`,
    `script-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>wa-replica</title>
<style nonce="${nonce}">${STYLE}</style>
</head>
<body>
<main id="main" aria-live="polite">${report === undefined ? outage() : overview(report, activity)}</main>
<script nonce="${nonce}">${REFRESH}</script>
</body>
</html>
`;
  return { html, headers: { 'content-security-policy': policy, 'referrer-policy': 'no-referrer' } };
}

function outage(): string {
  return '<h1>wa-replica</h1><p class="alarm">The database is out of reach. Replication waits for it and goes on by itself.</p>';
}

function overview(report: StatusReport, activity: ReadonlyMap<string, readonly number[]>): string {
  const { connections, workers, version, schema_version } = report;
  const sorted = [...connections].sort(
    (a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.connection_id < b.connection_id ? -1 : 1),
  );
  const count = (states: readonly ConnectionState[]) =>
    connections.filter((one) => states.includes(one.state)).length;
  const bad = count(['parked', 'stalled', 'backing_off']);
  const quarantined = connections.reduce((sum, one) => sum + Number(one.quarantined), 0);
  const headline =
    connections.length === 0
      ? 'No connections are known yet.'
      : bad > 0
        ? `${bad} of ${connections.length} connections ${bad === 1 ? 'does' : 'do'} not replicate`
        : workers.length === 0
          ? 'No worker is alive: nothing is replicated'
          : `${count(['live'])} of ${connections.length} connections are live`;
  const alarm = bad > 0 || (workers.length === 0 && connections.length > 0);
  return `<header><h1>wa-replica</h1>
<p class="${alarm ? 'alarm' : 'headline'}" role="status">${headline}</p>
<p class="quiet">${workers.length} ${workers.length === 1 ? 'worker' : 'workers'} · ${quarantined} in quarantine · version ${escapeHtml(version)} · schema ${escapeHtml(schema_version ?? '–')}</p></header>
<ul class="connections">${sorted.map((one) => card(one, activity.get(one.connection_id) ?? [])).join('')}</ul>`;
}

function card(status: ConnectionStatus, minutes: readonly number[]): string {
  const { rows } = status;
  const number = (text: string) => Number(text).toLocaleString('en');
  const total = BigInt(rows.messages) + BigInt(rows.conversations) + BigInt(rows.contacts);
  const share = status.window_left_seconds / Math.max(1, status.window_left_seconds + status.lag_seconds);
  const windowClass = share < 0.25 ? 'alarm' : share < 0.5 ? 'warn' : '';
  return `<li class="card ${status.state}" tabindex="0">
<h2>${escapeHtml(status.connection_id)}</h2>
<p class="state"><span class="dot" aria-hidden="true"></span>${STATES[status.state]}</p>
<dl>
<div><dt>behind</dt><dd>${humanDuration(status.lag_seconds)}</dd></div>
<div><dt>window left</dt><dd class="${windowClass}">${humanDuration(status.window_left_seconds)}</dd></div>
<div><dt>rows</dt><dd title="${number(rows.messages)} messages, ${number(rows.conversations)} conversations, ${number(rows.contacts)} contacts">${Number(total).toLocaleString('en')}</dd></div>
<div><dt>quarantined</dt><dd>${number(status.quarantined)}</dd></div>
</dl>
${sparkline(minutes)}
${problem(status)}
</li>`;
}

function problem(status: ConnectionStatus): string {
  if (status.last_error_kind === null) return '';
  const what = remedy(status.last_error_kind);
  const advice = what === undefined ? '' : `<br><strong>${escapeHtml(what)}</strong>`;
  const text = `${status.last_error_kind}: ${status.last_error ?? ''}`;
  return `<p class="problem">${escapeHtml(text)}, ${status.consecutive_failures} failures in a row${advice}</p>`;
}

/** Records per minute over the last hour, as a line. */
function sparkline(minutes: readonly number[]): string {
  const most = Math.max(1, ...minutes);
  const sum = minutes.reduce((a, b) => a + b, 0);
  const points = minutes.map((count, i) => `${i * 4},${(30 - (count / most) * 28).toFixed(1)}`).join(' ');
  const label = `${sum} records in the last hour, at most ${Math.max(0, ...minutes)} in a minute`;
  return `<svg class="spark" viewBox="0 0 236 32" preserveAspectRatio="none" role="img" aria-label="${label}"><title>${label}</title><polyline points="${points}"/></svg>`;
}
