/** What of JSON is told by its bytes: all of it is ASCII, and no byte of any other character in UTF-8 is. */
export const QUOTE = 34;
export const BACKSLASH = 92;
export const OPEN_BRACE = 123;
export const OPEN_BRACKET = 91;
export const CLOSE_BRACE = 125;
export const CLOSE_BRACKET = 93;
export const COMMA = 44;
export const COLON = 58;
export const LOWER_U = 117;
export const ZERO = 48;
export const NINE = 57;
export const MINUS = 45;

/** Where the text begins: a byte order mark may lead it. */
export function startOf(json: Buffer): number {
  return json[0] === 0xef && json[1] === 0xbb && json[2] === 0xbf ? 3 : 0;
}

/** The first byte from there on that is no white space. */
export function skipSpace(json: Buffer, start: number): number {
  let at = start;
  while (json[at] === 32 || json[at] === 9 || json[at] === 10 || json[at] === 13) at++;
  return at;
}

/** Whether a byte may be part of a number: a digit, a sign, a point, or what leads an exponent. */
export function isNumberPart(byte: number): boolean {
  return (
    (byte >= ZERO && byte <= NINE) ||
    byte === MINUS ||
    byte === 43 ||
    byte === 46 ||
    byte === 69 ||
    byte === 101
  );
}
