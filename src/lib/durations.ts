/** A duration for people, in its greatest unit alone: `93784 s` is `1 d`. */
export function roughDuration(seconds: number): string {
  return humanDuration(seconds).split(' ').slice(0, 2).join(' ');
}

/** A duration for people, in its two greatest units at most: `850ms` is `0.9 s`, `93784 s` is `1 d 2 h`. */
export function humanDuration(seconds: number): string {
  const sign = seconds < 0 ? '−' : '';
  const s = Math.abs(seconds);
  if (s < 10) return `${sign}${s.toFixed(1)} s`;
  if (s < 60) return `${sign}${Math.round(s)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${sign}${minutes} min ${Math.floor(s % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${sign}${hours} h ${minutes % 60} min`;
  return `${sign}${Math.floor(hours / 24)} d ${hours % 24} h`;
}
