import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import { SETTINGS, type Setting } from '../../src/config/settings.ts';

/* What can be said of the manifests without a cluster: that they fit together, and fit the program. */

const FOLDER = path.join(import.meta.dirname, '../../deploy/kubernetes');
const read = (name: string) => readFileSync(path.join(FOLDER, name), 'utf8');
const settings: Readonly<Record<string, Setting>> = SETTINGS;

/** All values of a key, wherever it stands; comments are left out. */
function valuesOf(yaml: string, key: string): string[] {
  const line = new RegExp(`^(?!\\s*#)[\\s-]*${key.replaceAll('/', '\\/')}:\\s+(.+)$`, 'gm');
  return [...yaml.matchAll(line)].map((match) => match[1]!.trim());
}

function only(yaml: string, key: string): string {
  const values = new Set(valuesOf(yaml, key));
  expect([key, values.size]).toEqual([key, 1]);
  return [...values][0]!;
}

const deployment = read('deployment.yaml');
const secret = read('secret.yaml');
const kustomization = read('kustomization.yaml');

/** As Kubernetes reads it, to which 0440 is octal. */
const manifest = (name: string) => parse(read(name), { version: '1.1' });
const pod = manifest('deployment.yaml').spec.template.spec as {
  readonly securityContext: object;
  readonly containers: readonly Record<string, { readonly httpGet?: { readonly port: string } }>[];
  readonly volumes: readonly { readonly secret: { readonly defaultMode: number } }[];
};

test('kubectl apply -k takes every file here', () => {
  const listed = [...kustomization.matchAll(/^ {2}- (\S+\.yaml)$/gm)].map((match) => match[1]);
  const there = readdirSync(FOLDER).filter((name) => name !== 'kustomization.yaml');
  expect(listed.sort()).toEqual(there.sort());
});

test.each(readdirSync(FOLDER))('%s has spaces for indentation, no tabs, and a kind', (name) => {
  const text = read(name);
  expect(text).not.toMatch(/\t| $/m);
  expect(valuesOf(text, 'apiVersion').length).toBe(1);
  for (const line of text.split('\n'))
    expect(line.length - line.trimStart().length).toSatisfy((n: number) => n % 2 === 0);
});

test.each([
  ['namespace.yaml', 'v1', 'Namespace'],
  ['secret.yaml', 'v1', 'Secret'],
  ['deployment.yaml', 'apps/v1', 'Deployment'],
  ['service.yaml', 'v1', 'Service'],
  ['poddisruptionbudget.yaml', 'policy/v1', 'PodDisruptionBudget'],
  ['kustomization.yaml', 'kustomize.config.k8s.io/v1beta1', 'Kustomization'],
])('%s is of %s, a %s', (name, apiVersion, kind) => {
  expect(manifest(name)).toMatchObject({ apiVersion, kind });
});

describe('the parts name each other', () => {
  const label = 'app.kubernetes.io/name';

  test('selectors match the label of the pods', () => {
    const labels = ['deployment.yaml', 'service.yaml', 'poddisruptionbudget.yaml'].flatMap((name) =>
      valuesOf(read(name), label),
    );
    expect(new Set(labels)).toEqual(new Set(['wa-replica']));
  });

  test('the secret that is mounted is the one that is there', () => {
    expect(only(deployment, 'secretName')).toBe(valuesOf(secret, 'name')[0]);
    const mounted = only(deployment, 'mountPath');
    const keys = [...secret.matchAll(/^ {2}(?:# )?([A-Z_]+): /gm)].map((match) => match[1]!);
    const files = [...deployment.matchAll(/name: ([A-Z_]+)_FILE\n\s*(?:# {3})?value: (\S+)/g)].map(
      (match) => [match[1]!, match[2]!] as const,
    );
    expect(files.map(([name]) => name)).toEqual(keys);
    for (const [name, file] of files) {
      expect(file).toBe(`${mounted}/${name}`);
      expect(settings[name]).toMatchObject({ secret: true });
    }
  });

  test('ports and probes are those of the program', () => {
    expect(only(deployment, 'containerPort')).toBe(settings.HTTP_PORT!.default);
    expect(only(read('service.yaml'), 'targetPort')).toBe('http');
    const routes = readFileSync(path.join(import.meta.dirname, '../../src/ops/http/routes.ts'), 'utf8');
    for (const probed of valuesOf(deployment, 'path')) expect(routes).toContain(`path: '${probed}'`);
  });

  test('every probe asks at the port that there is', () => {
    const [container] = pod.containers;
    expect(container!.ports).toEqual([{ name: 'http', containerPort: 8080 }]);
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      expect([probe, container![probe]!.httpGet?.port]).toEqual([probe, 'http']);
  });

  test('the account is the one of the image, and its group may read the secret', () => {
    const dockerfile = readFileSync(path.join(FOLDER, '../../Dockerfile'), 'utf8');
    const [, uid, gid] = /^USER (\d+):(\d+)$/m.exec(dockerfile)!.map(Number);
    expect(pod.securityContext).toMatchObject({ runAsUser: uid, runAsGroup: gid, fsGroup: gid });
    expect(pod.volumes.map(({ secret }) => secret.defaultMode)).toEqual([0o440]);
  });

  test('the image is of this version', () => {
    expect(only(kustomization, 'newTag')).toBe(packageJson.version);
    expect(only(deployment, 'image')).toBe('wa-replica');
  });
});

describe('the deployment', () => {
  test('gives the program the time to stop that it takes', () => {
    const grace = Number(only(deployment, 'terminationGracePeriodSeconds'));
    const shutdown = settings.SHUTDOWN_TIMEOUT!.value(settings.SHUTDOWN_TIMEOUT!.default!) as number;
    expect(grace).toBe(30);
    expect(grace * 1000).toBeGreaterThan(shutdown);
  });

  test('has several replicas, of which one may go', () => {
    expect(Number(only(deployment, 'replicas'))).toBeGreaterThan(1);
    expect(only(read('poddisruptionbudget.yaml'), 'maxUnavailable')).toBe('1');
  });

  test('sets only settings that there are', () => {
    const names = [...deployment.matchAll(/- name: ([A-Z][A-Z0-9_]+)$/gm)].map((match) => match[1]!);
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expect(Object.keys(settings)).toContain(name.replace(/_FILE$/, ''));
  });

  test('asks for no rights', () => {
    for (const line of [
      'runAsNonRoot: true',
      'allowPrivilegeEscalation: false',
      'readOnlyRootFilesystem: true',
      'automountServiceAccountToken: false',
      // Otherwise the environment has variables that are named after Services, ours first of all.
      'enableServiceLinks: false',
      'drop: [ALL]',
      'type: RuntimeDefault',
    ]) {
      expect(deployment).toContain(line);
    }
  });
});

test('no secret is in the manifests, only where it belongs', () => {
  for (const value of [...valuesOf(secret, 'DATABASE_URL'), ...valuesOf(secret, 'WHATSAPP_USE_API_KEY')]) {
    expect(value).toContain('REPLACE_ME');
  }
});
