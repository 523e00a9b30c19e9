const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const;

/** A duration for people, in its greatest unit alone, cut: `93784 s` is `1 d`. */
export function roughDuration(seconds: number): string {
  return inUnits(seconds, 1);
}

/** A duration for people, in its two greatest units at most, cut: `860ms` is `0.9 s`, `93784 s` is `1 d 2 h`. */
export function humanDuration(seconds: number): string {
  return inUnits(seconds, 2);
}

/** Not rounded: what is left of a window must not look like more. But 30 days less a minute, the window of a connection
 * that is current, are 30 days. */
function inUnits(seconds: number, most: 1 | 2): string {
  const sign = seconds < 0 ? '−' : '';
  const s = Math.abs(seconds);
  if (s < 10) return `${sign}${s.toFixed(1)} s`;
  const [, greatest] = UNITS.find(([, size]) => s >= size)!;
  const full = Math.ceil(s / greatest) * greatest;
  let rest = full - s <= greatest / 100 ? full : s;
  const from = UNITS.findIndex(([, size]) => rest >= size);
  const parts = UNITS.slice(from, from + most).map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return `${count} ${unit}`;
  });
  return `${sign}${parts.join(' ')}`;
}
