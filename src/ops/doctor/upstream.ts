import { codeOf, kindOfStatus, ReplicaError } from '../../errors/errors.ts';
import { remedy } from '../../errors/remedies.ts';
import { plural } from '../../lib/plural.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../../model.ts';
import type { ApiKey } from '../../upstream/api-key.ts';
import type { UpstreamClient } from '../../upstream/client.ts';
import { connectionsIn } from '../../upstream/me.ts';
import { clockFinding, type Finding, ok, problem, warning } from './finding.ts';

export interface UpstreamCheck {
  readonly upstream: UpstreamClient;
  readonly keys: readonly ApiKey[];
  /** The ids to replicate; undefined for those that the keys list. */
  readonly given: readonly ConnectionId[] | undefined;
  readonly baseUrl: URL;
}

/** What to do where the upstream cannot be reached, by network code. */
const REACH_REMEDIES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the host of WHATSAPP_USE_BASE_URL has no address: check its spelling, DNS and the proxy',
  EAI_AGAIN: 'the host of WHATSAPP_USE_BASE_URL has no address now: check DNS and the proxy',
  ECONNREFUSED: 'nothing listens there: check WHATSAPP_USE_BASE_URL and the proxy',
  SELF_SIGNED_CERT_IN_CHAIN: 'a CA that is not known here (a proxy?): name it by NODE_EXTRA_CA_CERTS',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'a self-signed certificate: name it by NODE_EXTRA_CA_CERTS',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'a CA that is not known here (a proxy?): name it by NODE_EXTRA_CA_CERTS',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for another name: check WHATSAPP_USE_BASE_URL',
  ERR_SSL_WRONG_VERSION_NUMBER:
    'what answers there does not speak TLS: check scheme and port of WHATSAPP_USE_BASE_URL',
  CERT_HAS_EXPIRED: "the upstream's certificate has expired, or the clock here is wrong",
};

const SCOPE = 'whatsapp:read';

/** Checks reach, each key and its scope, and every connection's pairing and access. */
export async function checkUpstream(check: UpstreamCheck, signal: AbortSignal): Promise<Finding[]> {
  const { keys, given = [], upstream, baseUrl } = check;
  const findings: Finding[] = [];
  const listed = new Set<ConnectionId>();
  try {
    for (const [place, key] of keys.entries()) {
      const name = keys.length === 1 ? 'key' : `key ${place + 1}`;
      findings.push(...(await checkKey(check, name, key, place === 0, listed, signal)));
    }
    // They are asked for with the first key; where a key is refused, that comes first.
    const unlisted = findings.some(({ level }) => level === 'problem')
      ? []
      : given.filter((id) => !listed.has(id));
    if (listed.size > 0)
      for (const id of unlisted)
        findings.push(warning(`${id}: no key lists it`, 'check WHATSAPP_USE_CONNECTION_IDS'));
    findings.push(...(await checkConnections(upstream, keys[0]!, unlisted, signal)));
  } catch (error) {
    if (signal.aborted || !(error instanceof ReplicaError)) throw error;
    const code = error.code ?? codeOf(error);
    const advice = REACH_REMEDIES[code] ?? remedy('network') ?? 'check the network';
    findings.push(problem(`upstream: ${baseUrl.host} does not answer (${code})`, advice));
  }
  return findings;
}

/** Checks a key, and the connections that it lists, which are added to `listed`. */
async function checkKey(
  { upstream, given }: UpstreamCheck,
  name: string,
  key: ApiKey,
  first: boolean,
  listed: Set<ConnectionId>,
  signal: AbortSignal,
): Promise<Finding[]> {
  const before = Date.now();
  const me = await upstream.probe(key, undefined, '/v1/me', signal);
  const findings: Finding[] = [];
  // The header has whole seconds.
  if (first && me.date !== undefined) {
    findings.push(clockFinding('the upstream', me.date.getTime(), [before - 1000, Date.now()]));
  }
  if (me.status === 404) {
    // Every key has this one: it is not the API that answers.
    findings.push(problem(`${name}: GET /v1/me answers 404`, remedy('protocol') ?? ''));
    return findings;
  }
  if (me.status !== 200) {
    findings.push(statusProblem(name, me.status, 'GET /v1/me'));
    return findings;
  }
  if (!isObject(me.body)) {
    findings.push(strange(name, 'GET /v1/me'));
    return findings;
  }
  const scopes = scopesIn(me.body);
  if (scopes !== undefined && !scopes.includes(SCOPE) && !scopes.includes('*')) {
    findings.push(
      problem(
        `${name}: accepted, but without the scope ${SCOPE}`,
        `give the key the scope ${SCOPE}, or use another`,
      ),
    );
  } else {
    findings.push(ok(`${name}: accepted${scopes === undefined ? '' : `, with the scope ${SCOPE}`}`));
  }
  const refused = new Set<string>();
  const ids = connectionsIn(me.body, refused) ?? [];
  if (refused.size > 0)
    findings.push(
      warning(
        `${name}: ${refused.size} of the listed connection ids cannot be used, and are not replicated`,
        'an id is printable ASCII of at most 1,024 bytes; ask the vendor for other ids',
      ),
    );
  // A key that lists none is one connection without a name.
  const own = ids.length === 0 && refused.size === 0 && given === undefined ? [UNNAMED_CONNECTION] : ids;
  const asked = own.filter((id) => given?.includes(id) !== false && !listed.has(id));
  for (const id of asked) listed.add(id);
  findings.push(...(await checkConnections(upstream, key, asked, signal)));
  return findings;
}

/** Connections in a row without an answer, after which the others are not asked for: each costs REQUEST_TIMEOUT. */
const PATIENCE = 3;

async function checkConnections(
  upstream: UpstreamClient,
  key: ApiKey,
  ids: readonly ConnectionId[],
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let silent = 0;
  for (const [place, id] of ids.entries()) {
    try {
      findings.push(await checkConnection(upstream, key, id, signal));
      silent = 0;
    } catch (error) {
      if (signal.aborted || !(error instanceof ReplicaError)) throw error;
      const what = `${id}: ${error.where ?? 'the upstream'} is not answered (${error.code ?? codeOf(error)})`;
      findings.push(problem(what, 'try again later; if it stays, ask the vendor'));
      if (++silent < PATIENCE) continue;
      const left = ids.length - place - 1;
      if (left > 0)
        findings.push(
          warning(`${plural(left, 'connection')} not looked at`, 'mend those above, then look again'),
        );
      break;
    }
  }
  return findings;
}

async function checkConnection(
  upstream: UpstreamClient,
  key: ApiKey,
  id: ConnectionId,
  signal: AbortSignal,
): Promise<Finding> {
  const status = await upstream.probe(key, id, '/v1/whatsapp/status', signal);
  if (status.status !== 200) return statusProblem(id, status.status, 'GET /v1/whatsapp/status');
  if (!isObject(status.body)) return strange(id, 'GET /v1/whatsapp/status');
  const { paired, connected } = status.body;
  if (paired === false)
    return problem(`${id}: the WhatsApp account is not paired`, remedy('not_paired') ?? 'pair it');
  const page = await upstream.probe(key, id, '/v1/whatsapp/sync?cursor=0&limit=1', signal);
  if (page.status !== 200) return statusProblem(id, page.status, 'GET /v1/whatsapp/sync');
  if (!isObject(page.body) || page.body.cursor === undefined) return strange(id, 'GET /v1/whatsapp/sync');
  if (connected === false) {
    return warning(`${id}: paired, but not connected now`, 'messages come when the phone is online again');
  }
  // Neither is documented to be told always.
  const told = [paired === true && 'paired', connected === true && 'connected', 'readable'];
  return ok(`${id}: ${told.filter(Boolean).join(', ')}`);
}

function statusProblem(what: string, status: number, request: string): Finding {
  const advice = remedy(kindOfStatus(status)) ?? 'try again later; if it stays, ask the vendor';
  return problem(`${what}: ${request} answers ${status}`, advice);
}

/** An answer with status 200 that is none of the API's: of a proxy's log-in page, or of another service. */
function strange(what: string, request: string): Finding {
  return problem(`${what}: ${request} answers 200, but not as the API does`, remedy('protocol') ?? '');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The scopes that `/v1/me` tells, at any depth; its shape is not documented. */
function scopesIn(me: unknown): string[] | undefined {
  const work: unknown[] = [me];
  for (let value = work.pop(); value !== undefined; value = work.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    for (const [name, child] of Object.entries(value)) {
      if (name === 'scopes' && Array.isArray(child)) return child.filter((one) => typeof one === 'string');
      if (child !== undefined) work.push(child);
    }
  }
  return undefined;
}
