import { request } from 'node:http';
import { waitFor } from './wait.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

export interface HttpQuestion {
  readonly method?: string;
  /** `host` included, which `fetch` would not send. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** One request on a connection of its own. */
export function ask(
  url: string,
  { method = 'GET', headers = {}, body }: HttpQuestion = {},
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const options = { method, headers, agent: false, signal: AbortSignal.timeout(30_000) };
    const asked = request(url, options, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text }),
      );
      answer.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** The header of a token as bearer, in UTF-8. */
export function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${Buffer.from(token).toString('latin1')}` };
}

/** The header of basic auth. */
export function basic(user: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

/** Asks `/readyz` until it says what is awaited, and gives its whole answer. */
export async function readiness(
  base: string,
  awaited: { status: number; says?: string },
  headers: Record<string, string> = {},
  deadlineMs = 30_000,
): Promise<Record<string, unknown>> {
  let last = '';
  const there = async () => {
    const answer = await ask(`${base}/readyz`, { headers });
    last = `${answer.status} ${answer.body}`;
    return answer.status === awaited.status && answer.body.includes(awaited.says ?? '') ? answer : undefined;
  };
  const what = `/readyz to answer ${awaited.status} ${awaited.says ?? ''}`;
  const answer = await waitFor(there, { what, deadlineMs }).catch((error: unknown) => {
    throw new Error(`${what}; it answers ${last}`, { cause: error });
  });
  return JSON.parse(answer.body) as Record<string, unknown>;
}
