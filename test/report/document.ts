import { benchMarkdown, cellsOf, machineMarkdown, type Report } from '../bench/report.ts';
import { number } from '../bench/result.ts';

/** What `npm run test:chaos -- --json` prints. */
export interface ChaosFigures {
  readonly seed: number;
  readonly lanes: number;
  readonly seconds: number;
  readonly kills: Readonly<Record<string, number>>;
  readonly postgresDeaths: Readonly<Record<string, number>>;
  readonly others: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly pages: number;
  readonly rows: number;
  readonly breaches: readonly string[];
}

export interface Commands {
  readonly report: string;
  readonly chaos: string;
  readonly bench: string;
}

const MARKS = ['<!-- report:summary -->', '<!-- /report:summary -->'] as const;

/** The reliability report: every figure, with seed, versions and the command that gives it again. */
export function documentOf(chaos: ChaosFigures, bench: Report, commands: Commands): string {
  const { machine, date } = bench;
  const lines = [
    '# Reliability report',
    '',
    `Written by \`${commands.report}\` at commit ${machine.commit} on ${date.slice(0, 10)}; nothing in it is written by hand.`,
    '',
    ...summaryLines(chaos, bench),
    '',
    '## Machine',
    '',
    machineMarkdown(bench),
    '## Chaos',
    '',
    `Real daemons, a real Postgres and the simulated upstream, killed and disturbed at random places; at the end every row is compared with the upstream's truth. Again: \`${commands.chaos}\`.`,
    '',
    '| | number | of which |',
    '| --- | ---: | --- |',
    row('daemons killed', chaos.kills),
    row('Postgres killed or stopped', chaos.postgresDeaths),
    row('faults of the network and the upstream', chaos.faults),
    row('also', chaos.others),
    `| pages written | ${number(chaos.pages)} | ${number(chaos.rows)} rows |`,
    `| rules broken | ${chaos.breaches.length} | ${chaos.breaches.length === 0 ? 'nothing lost, nothing doubled, nothing stuck' : 'see below'} |`,
    '',
    `Seed ${chaos.seed}, ${chaos.lanes} scenarios at a time, ${number(chaos.seconds)} s.`,
    '',
    ...chaos.breaches.map((breach) => `- ${breach}`),
  ];
  for (const result of bench.results) lines.push(`## ${result.bench}`, '', benchMarkdown(bench, result));
  lines.push(
    `The benches again: \`${commands.bench}\`; what they measure and how is in [benchmarks.md](benchmarks.md).`,
    '',
  );
  return lines.join('\n');
}

/** README with the report's summary between its marks.
 * @throws Error where it has no such marks. */
export function intoReadme(readme: string, chaos: ChaosFigures, bench: Report): string {
  const [from, to] = MARKS.map((mark) => readme.indexOf(mark)) as [number, number];
  if (from === -1 || to < from)
    throw new Error(`the README has no place for the summary: ${MARKS.join(' … ')}`);
  const summary = summaryLines(chaos, bench).join('\n');
  return `${readme.slice(0, from + MARKS[0].length)}\n${summary}\n${readme.slice(to)}`;
}

function summaryLines(chaos: ChaosFigures, bench: Report): string[] {
  const kills = sum(chaos.kills);
  const deaths = sum(chaos.postgresDeaths);
  const faults = sum(chaos.faults);
  const verdict =
    chaos.breaches.length === 0
      ? 'no row lost, doubled or stuck'
      : `**${chaos.breaches.length} rules broken**`;
  const lines = [
    `- ${number(kills + deaths + faults)} seeded kills and faults (${number(kills)} daemons killed, ${number(deaths)} times Postgres, ${number(faults)} faults of network and upstream): ${verdict} in ${number(chaos.rows)} rows.`,
  ];
  for (const { tables } of bench.results) {
    for (const table of tables) {
      const { head, rows } = cellsOf(table);
      const told = rows.map((cells) => `${cells[0]} ${cells[1]}`).join('; ');
      lines.push(`- ${table.title} (${head[1]}): ${told}.`);
    }
  }
  for (const why of bench.unfit) lines.push(`- The figures of speed are not to be published: ${why}.`);
  return lines;
}

function row(name: string, counts: Readonly<Record<string, number>>): string {
  const parts = Object.entries(counts).sort(([, a], [, b]) => b - a);
  return `| ${name} | ${number(sum(counts))} | ${parts.map(([what, count]) => `${what} ${count}`).join(', ')} |`;
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((all, one) => all + one, 0);
}
