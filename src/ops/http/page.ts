import { randomBytes } from 'node:crypto';
import { remedyOf } from '../../errors.ts';
import { humanDuration, roughDuration } from '../../lib/durations.ts';
import { plural } from '../../lib/plural.ts';
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

/** As many whole cards fit a screen, or nearly. */
const FEW = 12;

export interface RenderedPage {
  readonly html: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Text as HTML shows it, and as nothing else. */
function escapeHtml(text: string): string {
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
 * @param maxLag READY_MAX_LAG, in milliseconds: what fails for no longer is no alarm.
 */
export function renderPage(report: StatusReport, activity: Activity, maxLag: number): RenderedPage {
  const { connections, workers, version, schema_version } = report;
  const sorted = [...connections].sort(
    (a, b) =>
      ORDER.indexOf(a.state) - ORDER.indexOf(b.state) ||
      Number(isFine(a)) - Number(isFine(b)) ||
      (a.connection_id < b.connection_id ? -1 : 1),
  );
  const quarantined = connections.reduce((sum, one) => sum + Number(one.quarantined), 0);
  const facts = [
    counted(workers.length, 'worker'),
    `${quarantined.toLocaleString('en')} in quarantine`,
    `version ${version}`,
    `schema ${schema_version ?? '–'}`,
  ];
  const cards = sorted.map((one) => card(one, activity.get(one.connection_id) ?? []));
  const many = connections.length > FEW;
  return document({ ...headlineOf(report, maxLag), facts: facts.join(' · '), main: cards.join(''), many });
}

/** The page while there is nothing to show. */
export function renderOutage(reason: string): RenderedPage {
  return document({
    headline: `Nothing to show: ${reason}.`,
    alarm: true,
    facts:
      'Replication waits, and goes on by itself where nobody is needed. This page looks again meanwhile.',
    main: '',
    many: false,
  });
}

interface Content {
  readonly headline: string;
  readonly alarm: boolean;
  readonly facts: string;
  /** HTML: list items. */
  readonly main: string;
  /** Cards of which there is nothing to tell are small. */
  readonly many: boolean;
}

function document({ headline, alarm, facts, main, many }: Content): RenderedPage {
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
<main><ul id="connections"${many ? ' class="many"' : ''}>${main}</ul></main>
<script nonce="${nonce}">${REFRESH}</script>
</body>
</html>
`;
  return { html, headers: { 'content-security-policy': policy, 'referrer-policy': 'no-referrer' } };
}

function headlineOf(
  { connections, workers }: StatusReport,
  maxLag: number,
): Pick<Content, 'headline' | 'alarm'> {
  const wanted = connections.filter((one) => one.state !== 'removed');
  const failing = wanted.filter(
    ({ state, lag_seconds: lag }) =>
      state === 'stalled' || state === 'parked' || (state === 'backing_off' && lag * 1000 > maxLag),
  ).length;
  const live = wanted.filter(({ state }) => state === 'live').length;
  if (wanted.length === 0) return { headline: 'No connections are known yet', alarm: false };
  if (workers.length === 0) return { headline: 'No worker is alive: nothing is replicated', alarm: true };
  const all = counted(wanted.length, 'connection');
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
  const leftClass = { error: 'alarm', warn: 'warn', none: '' }[status.window_alarm ?? 'none'];
  const idle = status.worker === null && state !== 'removed' ? ', no worker has it' : '';
  const notes = [problem(status), gaps(status), quarantined(status)].join('');
  const others = `${counted(rows.conversations, 'conversation')}, ${counted(rows.contacts, 'contact')}`;
  return `<li class="card ${state} ${isFine(status) ? 'fine' : 'odd'}" tabindex="0">
<h2>${escapeHtml(status.connection_id)}</h2>
<p class="state"><span class="dot" aria-hidden="true"></span>${STATES[state]}${idle}</p>
${notes}<dl>
<div><dt>behind</dt><dd>${humanDuration(status.lag_seconds)}</dd></div>
<div><dt>window left</dt><dd class="${leftClass}">${humanDuration(status.window_left_seconds)}</dd></div>
<div><dt>messages</dt><dd>${grouped(rows.messages)}</dd></div>
<div><dt>verified</dt><dd>${verified(status)}</dd></div>
</dl>
<p class="parts">${others}</p>
${sparkline(minutes)}
</li>`;
}

/** Whether there is nothing that somebody should see to, or wait for. */
function isFine(status: ConnectionStatus): boolean {
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
function counted(count: number | string, noun: string): string {
  return plural(grouped(count), noun);
}

function grouped(count: number | string): string {
  return BigInt(count).toLocaleString('en');
}
