import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { intoDocument, markdown, type Report } from './report.ts';
import { alternate, number, quantile, ratiosOf, type Series, spread } from './result.ts';

const RUN = path.join(import.meta.dirname, 'run.ts');
const DOCUMENT = path.join(import.meta.dirname, '../../docs/benchmarks.md');

/** The series that each bench has to come to, table by table. */
const EXPECTED: Readonly<Record<string, readonly number[]>> = {
  ingest: [8],
  replay: [2],
  latency: [2, 2],
  memory: [4, 3],
  scale: [1, 2, 1, 2],
  verify: [4],
  views: [15],
  features: [5, 5],
  search: [16],
  media: [3],
};

describe.runIf(process.platform === 'linux')('npm run bench -- --tiny', () => {
  let report: Report;

  // It fails by itself where the rows that a daemon has written are not those of the upstream.
  beforeAll(async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [RUN, '--tiny', '--json'], {
      maxBuffer: 64 * 2 ** 20,
    });
    report = JSON.parse(stdout) as Report;
  }, 300_000);

  test.each(Object.entries(EXPECTED))('%s measures everything that it is to', (bench, tables) => {
    const result = report.results.find((one) => one.bench === bench);
    expect(result?.tables.map(({ series }) => series.length)).toEqual(tables);
    for (const { series } of result!.tables) {
      for (const { samples } of series) {
        expect(samples).toHaveLength(1);
        // Sizes this small have paces that cannot be told: then it is null, as JSON has it.
        if (bench !== 'memory') expect(samples[0]!.value).toBeGreaterThan(0);
      }
    }
  });

  test('a resync of what has not changed writes no row', () => {
    const [table] = report.results.find(({ bench }) => bench === 'replay')!.tables;
    const { details } = table!.series[1]!.samples[0]!;
    expect(details).toMatchObject({ writes: 0, 'dead tuples': 0 });
  });

  test('says that its figures are not to be published, and what they were had with', () => {
    expect(report.unfit).toContain('a tiny size');
    expect(report.machine.node).toBe(process.version);
    expect(report.settings).toMatchObject({ synchronous_commit: 'on' });
    expect(markdown(report)).toContain('Not to be published: a tiny size');
  });

  test('has a place in the document for every bench', () => {
    const document = intoDocument(readFileSync(DOCUMENT, 'utf8'), report);
    for (const { tables } of report.results) {
      for (const { title, series } of tables) {
        expect(document).toContain(`**${title}**`);
        for (const { name } of series) expect(document).toContain(`| ${name} |`);
      }
    }
    // What is there already is replaced, not added to.
    expect(intoDocument(document, report)).toBe(document);
  });
});

describe('the sums', () => {
  const series = (name: string, values: readonly number[]): Series => ({
    name,
    samples: values.map((value) => ({ value, details: {} })),
  });

  test('median, quantile and spread', () => {
    expect(spread([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 });
    expect(spread([4, 1, 2, 3]).median).toBe(2.5);
    expect(quantile([0, 10], 0.99)).toBeCloseTo(9.9);
    expect(spread([]).median).toBeNaN();
  });

  test('a ratio is of two values of one round', () => {
    // The machine was slow in the second round, for both.
    const ratios = ratiosOf(series('subject', [50, 5, 40]), series('base', [100, 10, 100]));
    expect(ratios).toEqual({ median: 0.5, min: 0.4, max: 0.5 });
  });

  test('rounds alternate, and each begins with another', async () => {
    const order: string[] = [];
    const step = (name: string) => async (round: number) => {
      order.push(name);
      return { [name]: { value: round, details: {} } };
    };
    const found = await alternate([step('a'), step('b')], 3, () => {});
    expect(order.join('')).toBe('abbaab');
    expect(found).toEqual([series('a', [0, 1, 2]), series('b', [0, 1, 2])]);
  });

  test.each([
    [123_456.7, '123,457'],
    [12.34, '12.3'],
    [0.4567, '0.46'],
    [8, '8'],
    [Number.NaN, '–'],
  ])('%f is told as %s', (value, told) => expect(number(value)).toBe(told));
});
