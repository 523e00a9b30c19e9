/** `npm run report`: chaos, scale, ingest and verify, one after the other, and what they found as a document. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Report } from '../bench/report.ts';
import { type ChaosFigures, documentOf, intoReadme } from './document.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const USAGE = `npm run report -- [options]
  --kills N     daemons that are killed in the chaos (600: with the faults of the network, over a thousand)
  --rounds N    rounds of each bench (3)
  --seed N      of the chaos (1)
  --tiny        the smallest sizes: only to see that it runs
  --out FILE    where the document goes (docs/reliability-report.md)
  --readme FILE where its summary goes (README.md)
  --benchmarks FILE
                the benches' own tables too, into a document like docs/benchmarks.md
`;

const { values } = parseArgs({
  options: {
    kills: { type: 'string' },
    rounds: { type: 'string' },
    seed: { type: 'string', default: '1' },
    tiny: { type: 'boolean', default: false },
    out: { type: 'string', default: path.join(ROOT, 'docs/reliability-report.md') },
    readme: { type: 'string', default: path.join(ROOT, 'README.md') },
    benchmarks: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
const { tiny, seed, out, readme } = values;
const kills = values.kills ?? (tiny ? '2' : '600');
const rounds = values.rounds ?? (tiny ? '1' : '3');

const chaosArgs = ['--kills', kills, '--seed', seed];
const benchArgs = ['scale', 'ingest', 'verify', '--rounds', rounds, ...(tiny ? ['--tiny'] : [])];
// The same figures for both documents.
const shared = values.benchmarks === undefined ? [] : ['--write', values.benchmarks];
const chaos = await figuresOf<ChaosFigures>('test/chaos/run.ts', chaosArgs);
const bench = await figuresOf<Report>('test/bench/run.ts', [...benchArgs, ...shared]);
const commands = {
  report: `npm run report${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}`,
  chaos: `npm run test:chaos -- ${chaosArgs.join(' ')}`,
  bench: `npm run bench -- ${benchArgs.join(' ')}`,
};
writeFileSync(out, documentOf(chaos, bench, commands));
writeFileSync(readme, intoReadme(readFileSync(readme, 'utf8'), chaos, bench));
if (chaos.breaches.length > 0) {
  process.stderr.write(`WRONG:\n${chaos.breaches.join('\n')}\n`);
  process.exit(1);
}

/** Runs a script with `--json`. One that found something wrong says so in its figures, and ends with 1. */
async function figuresOf<T>(script: string, args: readonly string[]): Promise<T> {
  process.stderr.write(`${script} ${args.join(' ')}\n`);
  const child = spawn(process.execPath, [path.join(ROOT, script), ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  const [code] = await once(child, 'close');
  if (!stdout.startsWith('{')) throw new Error(`${script} ended with ${code} and no figures`);
  return JSON.parse(stdout) as T;
}
