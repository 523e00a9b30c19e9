import { request } from 'node:http';
import path from 'node:path';

export const IMAGE = 'postgres:17-alpine';

const PING_MS = 1_500;
const PULL_MS = 60_000;
const START_MS = 60_000;

interface Engine {
  readonly socketPath?: string;
  readonly host?: string;
  readonly port?: number;
}

/** A server in a container, or why there is none. */
export type DockerPostgres = { url: string; stop(): Promise<void> } | { reason: string };

/** Takes a Postgres from a Docker engine if one answers quickly and has, or can get, the image. */
export async function startDockerPostgres(settings: Record<string, string>): Promise<DockerPostgres> {
  const engine = await findEngine();
  if (!engine) return { reason: 'no Docker engine answers' };
  const [name = '', tag = ''] = IMAGE.split(':');
  if ((await ask(engine, 'GET', `/images/${IMAGE}/json`, PING_MS))?.status !== 200) {
    const pulled = await ask(engine, 'POST', `/images/create?fromImage=${name}&tag=${tag}`, PULL_MS);
    // A failed pull is a 200 with the error in its stream.
    if (pulled?.status !== 200 || pulled.body.includes('"error"')) {
      return { reason: `the Docker engine neither has nor gets ${IMAGE}` };
    }
  }
  const starting = startContainer(settings);
  const timer = Promise.withResolvers<undefined>();
  const timeout = setTimeout(() => timer.resolve(undefined), START_MS);
  try {
    const started = await Promise.race([starting, timer.promise]);
    if (started) return started;
    // Should it come after all, nobody wants it any more.
    starting.then((late) => late.stop()).catch(() => {});
    return { reason: `a container of ${IMAGE} did not start within ${START_MS / 1000} s` };
  } catch (error) {
    return { reason: `testcontainers failed: ${error instanceof Error ? error.message : String(error)}` };
  } finally {
    clearTimeout(timeout);
  }
}

async function startContainer(settings: Record<string, string>) {
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer(IMAGE)
    .withEnvironment({ POSTGRES_USER: 'test', POSTGRES_PASSWORD: 'test', POSTGRES_DB: 'test' })
    .withCommand([
      'postgres',
      ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
    ])
    .withExposedPorts(5432)
    // The server that runs the entrypoint's own set-up listens on a socket only: the port means the real one.
    .withWaitStrategy(Wait.forListeningPorts())
    .withStartupTimeout(START_MS)
    .start();
  const url = `postgresql://test:test@${container.getHost()}:${container.getMappedPort(5432)}/test`;
  return { url, stop: async () => void (await container.stop({ timeout: 1_000 })) };
}

async function findEngine(): Promise<Engine | undefined> {
  for (const engine of engines()) {
    if ((await ask(engine, 'GET', '/_ping', PING_MS))?.status === 200) return engine;
  }
  return undefined;
}

function engines(): Engine[] {
  const { DOCKER_HOST, XDG_RUNTIME_DIR } = process.env;
  if (DOCKER_HOST) {
    const { protocol, pathname, hostname, port } = new URL(DOCKER_HOST);
    if (protocol === 'unix:') return [{ socketPath: pathname }];
    return protocol === 'tcp:' || protocol === 'http:'
      ? [{ host: hostname, port: Number(port || 2375) }]
      : [];
  }
  const sockets = ['/var/run/docker.sock', path.join(process.env.HOME ?? '/', '.docker/run/docker.sock')];
  if (XDG_RUNTIME_DIR) sockets.push(path.join(XDG_RUNTIME_DIR, 'docker.sock'));
  return sockets.map((socketPath) => ({ socketPath }));
}

/** One request to the engine's API; undefined where none answers in time. */
function ask(
  engine: Engine,
  method: string,
  where: string,
  deadlineMs: number,
): Promise<{ status: number; body: string } | undefined> {
  return new Promise((resolve) => {
    const asked = request(
      { ...engine, method, path: where, signal: AbortSignal.timeout(deadlineMs) },
      (answer) => {
        let body = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          body += chunk;
        });
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }));
        answer.on('error', () => resolve(undefined));
      },
    );
    asked.on('error', () => resolve(undefined));
    asked.end();
  });
}
