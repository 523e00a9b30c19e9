/** Memory beyond this is not kept, in bytes: one page of huge texts must not hold memory for ever. */
const MAX_KEPT = 4 * 1024 ** 2;
/** Bytes of UTF-8 that a UTF-16 unit makes at most. */
const MAX_EXPANSION = 3;
/** Up to so many bytes are copied faster one by one than by a call of what copies them. */
const FEW = 48;

/**
 * Bytes that are written one behind the other into memory that grows, and that the next use takes again: what is wanted
 * of them is taken out before. Memory of its own for each page is what the garbage collector runs for.
 */
export class Scratch {
  bytes: Buffer;
  /** Where the next byte goes. */
  at = 0;
  readonly #least: number;

  /** @param least how many bytes there is room for at least. */
  constructor(least: number) {
    this.#least = least;
    this.bytes = Buffer.allocUnsafeSlow(least);
  }

  /** Begins anew. @param at where. */
  begin(at = 0): void {
    this.at = at;
  }

  /** What was written has been taken out. */
  end(): void {
    if (this.bytes.length > MAX_KEPT) this.bytes = Buffer.allocUnsafeSlow(this.#least);
  }

  /** Makes room for so many more bytes. */
  room(bytes: number): void {
    if (this.at + bytes <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.at + bytes));
    this.bytes.copy(larger, 0, 0, this.at);
    this.bytes = larger;
  }

  byte(value: number): void {
    this.room(1);
    this.bytes[this.at++] = value;
  }

  int32(value: number): void {
    this.room(4);
    this.at = this.bytes.writeInt32BE(value, this.at);
  }

  /** A text in UTF-8. */
  text(text: string): void {
    this.room(text.length * MAX_EXPANSION);
    this.at += this.bytes.write(text, this.at);
  }

  /** What is from `from` to before `to` in `source`. */
  copy(source: Buffer, from: number, to: number): void {
    this.room(to - from);
    if (to - from > FEW) {
      this.at += source.copy(this.bytes, this.at, from, to);
      return;
    }
    const { bytes, at } = this;
    for (let i = from; i < to; i++) bytes[at + i - from] = source[i]!;
    this.at = at + to - from;
  }
}
