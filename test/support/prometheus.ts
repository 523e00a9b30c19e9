/** A metric as Prometheus' text form gives it. */
export interface MetricFamily {
  readonly help: string;
  readonly type: string;
  /** By series: the name with its labels, such as `x_total{kind="message"}`. */
  readonly values: ReadonlyMap<string, number>;
}

/** Reads Prometheus' text form, strictly: every line must be one of its kinds, every series have HELP and TYPE. */
export function parseMetrics(text: string): Map<string, MetricFamily> {
  const families = new Map<string, { help: string; type: string; values: Map<string, number> }>();
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (comment !== null) {
      const [, what, name = '', rest = ''] = comment;
      const family = families.get(name) ?? { help: '', type: '', values: new Map() };
      families.set(name, what === 'HELP' ? { ...family, help: rest } : { ...family, type: rest });
      continue;
    }
    const series = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$/.exec(
      line,
    );
    if (series === null) throw new Error(`no line of Prometheus' text form: ${line}`);
    const [, name = '', labels = '', value] = series;
    const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
    if (family === undefined) throw new Error(`a series without HELP and TYPE: ${line}`);
    family.values.set(name + labels, Number(value));
  }
  return families;
}

/** The value of one series; undefined where it is not there. */
export function seriesValue(families: ReadonlyMap<string, MetricFamily>, series: string): number | undefined {
  for (const { values } of families.values()) if (values.has(series)) return values.get(series);
  return undefined;
}
