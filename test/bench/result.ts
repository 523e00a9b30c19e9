/** What benches measure, and the form in which it is told. */

/** One run of one variant. */
export interface Sample {
  /** In the table's unit. */
  readonly value: number;
  /** What else was measured in it, by a label that names the unit. */
  readonly details: Readonly<Record<string, number>>;
}

/** All runs of one variant, one a round. */
export interface Series {
  readonly name: string;
  readonly samples: Sample[];
}

export interface Table {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
  /** A column of ratios for each: the name of the series that is the base, and the column's label. */
  readonly ratios: readonly { readonly to: string; readonly label: string }[];
  /** What the issue asks for, by series. */
  readonly targets?: Readonly<Record<string, string>>;
  /** What a reader has to know of it. */
  readonly notes: readonly string[];
}

export interface BenchResult {
  readonly bench: string;
  readonly about: string;
  readonly tables: readonly Table[];
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

/** @param sorted ascending. Between two values, the line between them. */
export function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = share * (sorted.length - 1);
  const below = sorted[Math.floor(place)]!;
  return below + (sorted[Math.ceil(place)]! - below) * (place % 1);
}

/** Of each round, the value as a part of the base's in the same round. */
export function ratiosOf(series: Series, base: Series): Spread {
  const pairs = Math.min(series.samples.length, base.samples.length);
  const ratios: number[] = [];
  for (let i = 0; i < pairs; i++) ratios.push(series.samples[i]!.value / base.samples[i]!.value);
  return spread(ratios);
}

/** What one step of a round measured, by series. */
export type Step = (round: number) => Promise<Readonly<Record<string, Sample>>>;

/**
 * Runs the steps in alternation: every round has each of them once, so that whatever changes on the machine
 * meanwhile meets all alike. The order turns from round to round: none always comes after the same other.
 */
export async function alternate(
  steps: readonly Step[],
  rounds: number,
  note: (line: string) => void,
): Promise<Series[]> {
  const found = new Map<string, (Sample | undefined)[]>();
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < steps.length; i++) {
      const place = (i + round) % steps.length;
      for (const [name, sample] of Object.entries(await steps[place]!(round))) {
        if (!found.has(name)) found.set(name, []);
        found.get(name)![round] = sample;
        note(`round ${round + 1}/${rounds}  ${name}: ${number(sample.value)}${detailsText(sample)}`);
      }
    }
  }
  return [...found].map(([name, samples]) => ({ name, samples: samples.filter((one) => one !== undefined) }));
}

function detailsText({ details }: Sample): string {
  const parts = Object.entries(details).map(([label, value]) => `${label} ${number(value)}`);
  return parts.length === 0 ? '' : `  (${parts.join(', ')})`;
}

/** Three digits or more, none of them made up. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
