import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Agent } from 'undici';
import { DEFAULT_API_KEY, type SimulatorOptions } from '../../src/simulator/options.ts';
import { cpuOf } from './proc.ts';

/** What the process says once it serves. */
export interface UpstreamStarted {
  readonly url: string;
  readonly connections: readonly { readonly id: string; readonly messages: number }[];
}

/** What it was asked since the last mark. */
export interface UpstreamReport {
  /** Requests of the sync endpoint. */
  readonly pages: number;
  /** When the first of them was answered, in milliseconds since 1970; 0 = none yet. */
  readonly firstAt: number;
}

/** The simulated upstream in a process of its own. */
export interface Upstream extends UpstreamStarted {
  /** In all connections. */
  readonly messages: number;
  /** Forgets what was asked so far. */
  mark(): Promise<void>;
  report(): Promise<UpstreamReport>;
  /** A request to its control API (`src/simulator/control.ts`). */
  control(name: string, body: object): Promise<void>;
  /** Seconds. */
  cpu(): number;
  close(): Promise<void>;
}

const SERVER = fileURLToPath(new URL('upstream-server.ts', import.meta.url));

export async function startUpstream(
  options: Partial<SimulatorOptions>,
  env: Readonly<Record<string, string>>,
): Promise<Upstream> {
  const child = fork(SERVER, [JSON.stringify(options)], {
    execArgv: [],
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const started = await answerOf<UpstreamStarted>(child);
  const ask = async (wish: 'mark' | 'report') => {
    const answer = answerOf<UpstreamReport>(child);
    child.send(wish);
    return await answer;
  };
  return {
    ...started,
    messages: started.connections.reduce((sum, { messages }) => sum + messages, 0),
    mark: async () => void (await ask('mark')),
    report: () => ask('report'),
    async control(name, body) {
      const answer = await fetch(`${started.url}/__simulator/${name}`, {
        method: 'POST',
        body: JSON.stringify(body),
      });
      if (!answer.ok) throw new Error(`the simulator refuses ${name}: ${await answer.text()}`);
      await answer.body?.cancel();
    },
    cpu: () => cpuOf(child.pid!),
    async close() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function answerOf<T>(child: ChildProcess): Promise<T> {
  const ended = new AbortController();
  const failed = () => ended.abort(new Error('the simulated upstream ended'));
  child.once('exit', failed);
  try {
    const [answer] = await once(child, 'message', { signal: ended.signal });
    return answer as T;
  } catch (error) {
    throw ended.signal.aborted ? ended.signal.reason : error;
  } finally {
    child.off('exit', failed);
  }
}

export interface ServingRate {
  readonly messagesPerSecond: number;
  readonly megabytesPerSecond: number;
}

/**
 * What it can serve to one plain client that throws the answers away: the bound that it sets to everything measured
 * against it. One connection after the other, page after page.
 */
export async function servingRate(upstream: Upstream, limit: number): Promise<ServingRate> {
  const agent = new Agent();
  const startedAt = performance.now();
  let bytes = 0;
  for (const { id } of upstream.connections) bytes += await serve(agent, upstream.url, id, limit);
  const seconds = (performance.now() - startedAt) / 1000;
  await agent.close();
  return { messagesPerSecond: upstream.messages / seconds, megabytesPerSecond: bytes / 1e6 / seconds };
}

/** @returns how many bytes a connection's pages have. */
async function serve(agent: Agent, origin: string, id: string, limit: number): Promise<number> {
  let bytes = 0;
  let cursor = '0';
  for (let more = true; more; ) {
    const { body } = await agent.request({
      origin,
      path: `/v1/whatsapp/sync?cursor=${cursor}&limit=${limit}`,
      method: 'GET',
      headers: { authorization: `Bearer ${DEFAULT_API_KEY}`, 'x-whatsapp-use-connection-id': id },
    });
    let end = '';
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      end = (end + chunk.subarray(-80).toString('latin1')).slice(-80);
    }
    const found = /"cursor":(\d+),"has_more":(true|false)\}$/.exec(end);
    if (found === null) throw new Error('the simulated upstream answers no page');
    cursor = found[1]!;
    more = found[2] === 'true';
  }
  return bytes;
}
