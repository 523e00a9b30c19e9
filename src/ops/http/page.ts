import { randomBytes } from 'node:crypto';
import { remedy } from '../../errors.ts';
import { humanDuration } from '../../lib/durations.ts';
import type { Activity } from '../../store/activity.ts';
import type { ConnectionState, ConnectionStatus } from '../../store/status.ts';
import type { StatusReport } from '../status.ts';
import { ICON, REFRESH, STYLE } from './page-assets.ts';

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

const FAILING: readonly ConnectionState[] = ['stalled', 'parked', 'backing_off'];

export interface RenderedPage {
  readonly html: string;
  readonly headers: Readonly<Record<string, string>>;
}

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
 * @param activity records per minute, by connection.
 */
export function renderPage(report: StatusReport, activity: Activity): RenderedPage {
  const { connections, workers, version, schema_version } = report;
  const sorted = [...connections].sort(
    (a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.connection_id < b.connection_id ? -1 : 1),
  );
  const quarantined = connections.reduce((sum, one) => sum + Number(one.quarantined), 0);
  const facts = [
    plural(workers.length, 'worker'),
    `${quarantined.toLocaleString('en')} in quarantine`,
    `version ${version}`,
    `schema ${schema_version ?? '–'}`,
  ];
  const cards = sorted.map((one) => card(one, activity.get(one.connection_id) ?? []));
  return document({ ...headlineOf(report), facts: facts.join(' · '), main: cards.join('') });
}

/** The page while there is nothing to show. */
export function renderOutage(reason: string): RenderedPage {
  return document({
    headline: `Nothing to show: ${reason}.`,
    alarm: true,
    facts:
      'Replication waits, and goes on by itself where nobody is needed. This page looks again meanwhile.',
    main: '',
  });
}

interface Content {
  readonly headline: string;
  readonly alarm: boolean;
  readonly facts: string;
  /** HTML: list items. */
  readonly main: string;
}

function document({ headline, alarm, facts, main }: Content): RenderedPage {
  const nonce = randomBytes(16).toString('base64');
  const policy = [
    "default-src 'none'",
    `style-src 'nonce-${nonce}'`,
    `script-src 'nonce-${nonce}'`,
    'img-src data:',
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
<title>${alarm ? '⚠ ' : ''}wa-replica</title>
<link rel="icon" href="${ICON}">
<style nonce="${nonce}">${STYLE}</style>
</head>
<body>
<header>
<h1>wa-replica</h1>
<p id="headline" class="${alarm ? 'alarm' : 'calm'}" role="status">${escapeHtml(headline)}</p>
<p id="facts">${escapeHtml(facts)}</p>
<p id="stale" role="alert" hidden>No answer: what you see is out of date.</p>
</header>
<main><ul id="connections">${main}</ul></main>
<script nonce="${nonce}">${REFRESH}</script>
</body>
</html>
`;
  return { html, headers: { 'content-security-policy': policy, 'referrer-policy': 'no-referrer' } };
}

function headlineOf({ connections, workers }: StatusReport): Pick<Content, 'headline' | 'alarm'> {
  const wanted = connections.filter((one) => one.state !== 'removed');
  const count = (states: readonly ConnectionState[]) =>
    wanted.filter((one) => states.includes(one.state)).length;
  const failing = count(FAILING);
  const live = count(['live']);
  if (wanted.length === 0) return { headline: 'No connections are known yet', alarm: false };
  if (workers.length === 0) return { headline: 'No worker is alive: nothing is replicated', alarm: true };
  const all = plural(wanted.length, 'connection');
  if (failing > 0)
    return { headline: `${failing} of ${all} ${failing === 1 ? 'does' : 'do'} not replicate`, alarm: true };
  const lossy = wanted.filter((one) => one.window_alarm === 'error' || one.gaps !== '0').length;
  if (lossy > 0)
    return {
      headline: `${lossy} of ${all} ${lossy === 1 ? 'has' : 'have'} lost messages, or will soon`,
      alarm: true,
    };
  if (live < wanted.length)
    return { headline: `${live} of ${all} live, the others on their way`, alarm: false };
  return { headline: live === 1 ? 'The connection is live' : `All ${all} are live`, alarm: false };
}

function card(status: ConnectionStatus, minutes: readonly number[]): string {
  const { rows, state } = status;
  const total = BigInt(rows.messages) + BigInt(rows.conversations) + BigInt(rows.contacts);
  const parts = [
    plural(rows.messages, 'message'),
    plural(rows.conversations, 'conversation'),
    plural(rows.contacts, 'contact'),
  ];
  const leftClass = { error: 'alarm', warn: 'warn', none: '' }[status.window_alarm ?? 'none'];
  const idle = status.worker === null && state !== 'removed' ? ', no worker has it' : '';
  return `<li class="card ${state}" tabindex="0">
<h2>${escapeHtml(status.connection_id)}</h2>
<p class="state"><span class="dot" aria-hidden="true"></span>${STATES[state]}${idle}</p>
<dl>
<div><dt>behind</dt><dd>${humanDuration(status.lag_seconds)}</dd></div>
<div><dt>window left</dt><dd class="${leftClass}">${humanDuration(status.window_left_seconds)}</dd></div>
<div><dt>rows</dt><dd>${total.toLocaleString('en')}</dd></div>
<div><dt>quarantined</dt><dd>${grouped(status.quarantined)}</dd></div>
<div class="wide"><dt>verified</dt><dd>${verified(status)}</dd></div>
</dl>
<p class="parts">${parts.join(', ')}</p>
${sparkline(minutes)}
${problem(status)}${gaps(status)}
</li>`;
}

/** What the last verification found. */
function verified({ verification }: ConnectionStatus): string {
  if (verification === null) return 'never';
  const { state, remaining, ledger_problems: ledger, finished_at } = verification;
  const at = finished_at.slice(0, 10);
  if (state === 'failed') return `<span class="warn">${at}, failed</span>`;
  if (remaining === '0' && ledger === 0) return `${at}, whole`;
  const what = remaining === '0' ? 'the ledger is not whole' : `${grouped(remaining)} differ`;
  return `<span class="alarm">${at}, ${what}</span>`;
}

/** What was lost for good, until somebody has seen it. */
function gaps({ gaps: open }: ConnectionStatus): string {
  if (open === '0') return '';
  return `<p class="problem">${plural(open, 'gap')}: the upstream forgot messages before they were replicated<br><strong>see wa-replica gaps list</strong></p>`;
}

function problem(status: ConnectionStatus): string {
  if (status.last_error_kind === null) return '';
  const what = remedy(status.last_error_kind);
  const advice = what === undefined ? '' : `<br><strong>${escapeHtml(what)}</strong>`;
  const text = `${status.last_error_kind}: ${status.last_error ?? ''}`;
  const failures = plural(status.consecutive_failures, 'failure');
  return `<p class="problem">${escapeHtml(text)}, ${failures} in a row${advice}</p>`;
}

/** Records per minute over the last hour, as a line. */
function sparkline(minutes: readonly number[]): string {
  const most = Math.max(0, ...minutes);
  const sum = minutes.reduce((a, b) => a + b, 0);
  const line = minutes.length > 0 ? minutes : [0, 0];
  const step = 236 / (line.length - 1);
  const points = line
    .map((count, i) => `${(i * step).toFixed(0)},${(30 - (count / Math.max(1, most)) * 28).toFixed(1)}`)
    .join(' ');
  const label = `last hour: ${plural(sum, 'record')}, peak ${grouped(most)} a minute`;
  return `<svg class="spark" viewBox="0 0 236 32" preserveAspectRatio="none" role="img" aria-label="${label}"><polyline points="${points}"/></svg>
<p class="parts">${label}</p>`;
}

/** @param count a number, or an int64 as text. */
function plural(count: number | string, word: string): string {
  return `${grouped(count)} ${word}${String(count) === '1' ? '' : 's'}`;
}

function grouped(count: number | string): string {
  return BigInt(count).toLocaleString('en');
}
