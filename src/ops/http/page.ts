import { randomBytes } from 'node:crypto';
import type { Activity } from '../../store/activity.ts';
import type { ConnectionState } from '../../store/status.ts';
import type { StatusReport } from '../status.ts';
import { ICON, REFRESH, STYLE } from './page-assets.ts';
import { card, counted, escapeHtml, isDown, isFine } from './page-card.ts';

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

/**
 * The one page: where every connection stands, at a glance. Shows no text of a message and no name of a person.
 * @param activity records per minute, by connection.
 * @param lateAfter how far behind a connection is an alarm that should not be, in milliseconds.
 */
export function renderPage(report: StatusReport, activity: Activity, lateAfter: number): RenderedPage {
  const { connections, workers, version, schema_version } = report;
  const sorted = [...connections].sort(
    (a, b) =>
      Number(isDown(b, lateAfter)) - Number(isDown(a, lateAfter)) ||
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
  const cards = sorted.map((one) => card(one, activity.get(one.connection_id) ?? [], lateAfter));
  const many = connections.length > FEW;
  return document({ ...headlineOf(report, lateAfter), facts: facts.join(' · '), main: cards.join(''), many });
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
  lateAfter: number,
): Pick<Content, 'headline' | 'alarm'> {
  const wanted = connections.filter((one) => one.state !== 'removed');
  const failing = wanted.filter((one) => isDown(one, lateAfter)).length;
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
  if (live === 0) {
    const headline = wanted.length === 1 ? 'The connection is on its way' : `All ${all} are on their way`;
    return { headline, alarm: false };
  }
  if (live < wanted.length)
    return { headline: `${live} of ${all} live, the others on their way`, alarm: false };
  return { headline: live === 1 ? 'The connection is live' : `All ${all} are live`, alarm: false };
}
