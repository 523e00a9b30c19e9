import type { Machine } from './machine.ts';
import {
  type BenchResult,
  number,
  ratiosOf,
  type Series,
  type Spread,
  spread,
  type Table,
} from './result.ts';

/** Everything that a run of the benches found, as `--json` prints it. */
export interface Report {
  /** Of the run's start. */
  readonly date: string;
  readonly command: string;
  readonly seed: number;
  readonly rounds: number;
  /** What makes figures that are not to be published: a profiler, a tiny size. */
  readonly unfit: readonly string[];
  readonly machine: Machine;
  /** Of Postgres. */
  readonly settings: Readonly<Record<string, string>>;
  readonly results: readonly BenchResult[];
}

export interface Cells {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** A table as texts: the median with the spread, ratios of the same round, medians of what else was measured. */
export function cellsOf({ unit, series, ratios, targets }: Table): Cells {
  const labels = [...new Set(series.flatMap(({ samples }) => Object.keys(samples[0]?.details ?? {})))];
  const bases = ratios.map(({ to, label }) => ({ label, base: series.find(({ name }) => name === to) }));
  return {
    head: ['', unit, ...bases.map(({ label }) => label), ...(targets ? ['target'] : []), ...labels],
    rows: series.map((one) => [
      one.name,
      spreadText(spread(one.samples.map(({ value }) => value))),
      ...bases.map(({ base }) => (base === undefined || base === one ? '' : spreadText(ratiosOf(one, base)))),
      ...(targets ? [targets[one.name] ?? ''] : []),
      ...labels.map((label) => detailOf(one, label)),
    ]),
  };
}

function spreadText({ median, min, max }: Spread): string {
  return min === max ? number(median) : `${number(median)} (${number(min)}–${number(max)})`;
}

function detailOf({ samples }: Series, label: string): string {
  const values = samples.map(({ details }) => details[label]).filter((value) => value !== undefined);
  return values.length === 0 ? '' : number(spread(values).median);
}

export function markdown(report: Report): string {
  return report.results.map((result) => benchMarkdown(report, result)).join('\n');
}

/** A bench's section of the document, with what its figures mean nothing without. */
export function benchMarkdown(report: Report, { bench, about, tables }: BenchResult): string {
  const { date, machine, rounds, seed, unfit } = report;
  const lines = [about, ''];
  for (const why of unfit) lines.push(`**Not to be published: ${why}.**`, '');
  for (const table of tables) {
    const { head, rows } = cellsOf(table);
    lines.push(`**${table.title}**`, '', line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))));
    lines.push(...rows.map(line), '', ...table.notes.flatMap((note) => [note, '']));
  }
  lines.push(
    `Median (least–greatest) of ${rounds} ${rounds === 1 ? 'round' : 'interleaved rounds'}, ratios within a round; \`npm run bench -- ${bench}\` at ${machine.commit}, ${date.slice(0, 10)}, seed ${seed}, ${machine.cores} cores (${machine.cpu}), load at the start ${machine.load_at_start}.`,
    '',
  );
  return lines.join('\n');
}

function line(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

/** Machine and versions, for the document's head. */
export function machineMarkdown({ machine, settings }: Report): string {
  const { cpu, cores, memory_gib, kernel, node, postgres, psql } = machine;
  const set = Object.entries(settings).map(([name, value]) => `\`${name} = ${value}\``);
  return `${cores} cores (${cpu}), ${memory_gib} GiB, ${kernel}; Node ${node}, PostgreSQL ${postgres} (embedded), psql ${psql}. Postgres as it comes: ${set.join(', ')}.\n`;
}

/** For a terminal. */
export function text({ results }: Report): string {
  const lines: string[] = [];
  for (const { bench, about, tables } of results) {
    lines.push(`\n${bench}: ${about}`);
    for (const table of tables) {
      lines.push(`\n  ${table.title}`);
      const { head, rows } = cellsOf(table);
      const widths = head.map((_, i) => Math.max(...[head, ...rows].map((cells) => cells[i]!.length)));
      for (const cells of [head, ...rows]) {
        const padded = cells.map((cell, i) =>
          i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!),
        );
        lines.push(`  ${padded.join('  ').trimEnd()}`);
      }
      lines.push(...table.notes.map((note) => `  ${note}`));
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Puts what was found between the marks of a document: `<!-- bench:NAME -->` … `<!-- /bench:NAME -->`. */
export function intoDocument(document: string, report: Report): string {
  let text = document;
  const put = (name: string, content: string) => {
    const [begin, end] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    if (from === -1 || to < from) throw new Error(`the document has no place for ${name}: ${begin} … ${end}`);
    text = `${text.slice(0, from + begin.length)}\n${content}${text.slice(to)}`;
  };
  put('machine', machineMarkdown(report));
  for (const result of report.results) put(result.bench, benchMarkdown(report, result));
  return text;
}
