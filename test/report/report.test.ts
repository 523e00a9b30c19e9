import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Report } from '../bench/report.ts';
import { type ChaosFigures, documentOf, intoReadme } from './document.ts';

const chaos: ChaosFigures = {
  seed: 7,
  lanes: 3,
  seconds: 12.5,
  kills: { fetched: 3, committed: 2 },
  postgresDeaths: { crash: 1 },
  others: { resync: 4 },
  faults: { reset: 10 },
  pages: 20,
  rows: 1234,
  breaches: [],
};
const bench: Report = {
  date: '2026-01-02T03:04:05Z',
  command: 'npm run bench',
  seed: 1,
  rounds: 1,
  unfit: ['a tiny size'],
  machine: {
    cpu: 'a cpu',
    cores: 2,
    memory_gib: 4,
    kernel: 'Linux 6',
    node: 'v24.0.0',
    postgres: '18.0',
    psql: '15',
    commit: 'abc',
    load_at_start: 0,
  },
  settings: { fsync: 'on' },
  results: [
    {
      bench: 'verify',
      about: 'About it.',
      tables: [
        {
          title: 'Records compared',
          unit: 'records/s',
          series: [{ name: 'as replicated', samples: [{ value: 1000, details: {} }] }],
          ratios: [],
          notes: [],
        },
      ],
    },
  ],
};
const commands = { report: 'npm run report', chaos: 'npm run test:chaos', bench: 'npm run bench' };

describe('the reliability report', () => {
  test('has figures, seed, versions and the command of each part', () => {
    const document = documentOf(chaos, bench, commands);
    for (const text of ['16 seeded kills and faults', '5 daemons killed', 'Seed 7', 'v24.0.0', '18.0', 'abc'])
      expect(document).toContain(text);
    for (const command of Object.values(commands)) expect(document).toContain(`\`${command}\``);
    expect(document).toContain('Records compared (records/s): as replicated 1,000.');
    expect(document).toContain('not to be published: a tiny size');
    expect(document).toContain('no row lost, doubled or stuck');
  });

  test('hides no breach', () => {
    const document = documentOf({ ...chaos, breaches: ['scenario 3: a row is missing'] }, bench, commands);
    expect(document).toContain('**1 rules broken**');
    expect(document).toContain('- scenario 3: a row is missing');
    expect(document).not.toContain('no row lost');
  });

  test('puts its summary between the marks of the README, and nowhere else', () => {
    const readme = readFileSync(path.join(import.meta.dirname, '../../README.md'), 'utf8');
    const once = intoReadme(readme, chaos, bench);
    expect(once).toContain('16 seeded kills and faults');
    expect(intoReadme(once, chaos, bench)).toBe(once);
    expect(once.split('<!-- report:summary -->')[0]).toBe(readme.split('<!-- report:summary -->')[0]);
    expect(once.split('<!-- /report:summary -->')[1]).toBe(readme.split('<!-- /report:summary -->')[1]);
    expect(() => intoReadme('# nothing', chaos, bench)).toThrow('report:summary');
  });
});
