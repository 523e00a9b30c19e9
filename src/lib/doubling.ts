/** Whether a count is 1, 2, 4, 8, …: what goes on failing is told that often. */
export function isDoubling(count: number): boolean {
  return (count & (count - 1)) === 0;
}
