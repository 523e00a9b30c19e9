/** Whether a stream is a terminal that shows colours, and nobody wants none: TERM=dumb, and NO_COLOR
 * (https://no-color.org), as Node heeds it. */
export function showsColours(stream: NodeJS.WritableStream): boolean {
  return (stream as Partial<NodeJS.WriteStream>).hasColors?.() === true;
}
