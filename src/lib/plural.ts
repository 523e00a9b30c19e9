/** A count with its noun, for people: `1 page`, `2 pages`.
 * @param count a number, or one that is written out already. */
export function plural(count: number | string, noun: string): string {
  return `${count} ${noun}${String(count) === '1' ? '' : 's'}`;
}
