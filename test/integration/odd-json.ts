/**
 * JSON as a careless or hostile upstream may write it, drawn at random, with what it means: for the property test of odd
 * records. What is made is bytes, one a character, since not all of them are UTF-8.
 */
import type { Random } from '../../src/simulator/random.ts';

/** A value as bytes, and the same as plain JSON; a text also as itself. */
export interface Odd {
  readonly bytes: string;
  readonly means: string;
  readonly text?: string;
  /** Postgres cannot hold it. */
  readonly refused?: boolean;
}

type Piece = readonly [bytes: string, text: string];

const utf8 = (text: string): string => Buffer.from(text).toString('latin1');

/** In JSON source as they are. */
const PLAIN = ['abc', "o'hara %s $1 --", '{}', '[', ',', ':', 'null', '1e5', '\u007f'].map(
  (s): Piece => [s, s],
);
const WIDE = ['é', '漢字', '😀', '\u202e', '\u2028', '\ufeff', '\uffff', '\u0080', '٣'].map(
  (s): Piece => [utf8(s), s],
);
const ESCAPED: readonly Piece[] = [
  [String.raw`\n`, '\n'],
  [String.raw`\/`, '/'],
  [String.raw`\"`, '"'],
  [String.raw`\\`, '\\'],
  [String.raw`\\u`, '\\u'],
  [String.raw`\u00e9`, 'é'],
  [String.raw`\ud83d\ude00`, '😀'],
  [String.raw`\uD83D\uDE00`, '😀'],
  [String.raw`\u001f`, '\u001f'],
];
/** What is mended (R10), and what only looks like it. */
const MENDED: readonly Piece[] = [
  [String.raw`\u0000`, '\ufffd'],
  [String.raw`\ud800`, '\ufffd'],
  [String.raw`\ud800\ud83d\ude00`, '\ufffd😀'],
  [String.raw`\\u0000`, '\\u0000'],
  [String.raw`\\\u0000`, '\\\ufffd'],
  ['\xff', '\ufffd'],
  ['\xe2\x82z', '\ufffdz'],
  ['\xed\xa0\x80', '\ufffd\ufffd\ufffd'],
];
const NUMBERS = [
  ...['0', '-0', '42', '0.5', '1.50', '1E+2', '1e-7', '0e999', '1e400', '-1e-400', '123456789012345'],
  ...['9007199254740993', '-9223372036854775808', '3.141592653589793238462643', '1'.repeat(200)],
];
const TOO_WIDE = ['1e131072', '-1e999999999'];
const KEYS = ['a', 'emoji', '__proto__', 'constructor', '', 'length', '4915@s.whatsapp.net'];
const JIDS = [
  ...['4915112345678@s.whatsapp.net', '4915112345678:17@s.whatsapp.net', '123456789@lid', '120363@g.us'],
  ...['status@broadcast', '120363@newsletter', '49151@c.us', '@', '@lid', '+4915112345678', '%_@%', 'A@LID'],
];

export class OddJson {
  readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  space(): string {
    return this.random.chance(0.8) ? '' : this.random.pick([' ', '\n', '\t', '\r\n']);
  }

  text(most = 3): Odd & { readonly text: string } {
    const pieces = Array.from({ length: this.random.int(most + 1) }, () =>
      this.random.pick(this.random.pick([PLAIN, WIDE, ESCAPED, MENDED])),
    );
    return oddText(pieces.map(([bytes]) => bytes).join('.'), pieces.map(([, text]) => text).join('.'));
  }

  /** Of few, so that records meet, some of them odd; never empty. */
  id(prefix: string): Odd & { readonly text: string } {
    if (this.random.chance(0.6)) return plain(`${prefix}${this.random.int(6)}`);
    const odd = this.random.chance(0.5) ? plain(this.random.pick(JIDS)) : this.text();
    return odd.text === '' ? plain(prefix) : odd;
  }

  jid(): Odd & { readonly text: string } {
    return this.random.chance(0.7) ? plain(this.random.pick(JIDS)) : this.text(2);
  }

  any(depth = 0): Odd {
    switch (this.random.int(depth > 3 ? 4 : 6)) {
      case 0:
        return this.random.pick(['null', 'true', 'false'].map((bytes) => ({ bytes, means: bytes })));
      case 1:
      case 2: {
        const refused = this.random.chance(0.02);
        const bytes = this.random.pick(refused ? TOO_WIDE : NUMBERS);
        return { bytes, means: refused ? '0' : bytes, refused };
      }
      case 3:
        return this.text();
      case 4: {
        const all = Array.from({ length: this.random.int(4) }, () => this.any(depth + 1));
        return {
          bytes: `[${all.map(({ bytes }) => this.space() + bytes + this.space()).join(',')}]`,
          means: `[${all.map(({ means }) => means).join(',')}]`,
          refused: all.some(({ refused }) => refused),
        };
      }
      default:
        return this.object(depth);
    }
  }

  object(depth = 0): Odd {
    const members = Array.from({ length: this.random.int(5) }, () => this.member(depth + 1));
    const counted = [...new Map(members.map(([key, value]) => [key.text, value]))];
    return {
      bytes: this.write(members),
      means: `{${counted.map(([key, { means }]) => `${JSON.stringify(key)}:${means}`).join(',')}}`,
      refused: counted.some(([, { refused }]) => refused),
    };
  }

  /** A key and a value. */
  member(depth = 0): readonly [Odd & { readonly text: string }, Odd] {
    const key = this.random.chance(0.5) ? plain(this.random.pick(KEYS)) : this.text(2);
    return [key, this.any(depth)];
  }

  /** An object of these members; the last one of a key counts. */
  write(members: readonly (readonly [key: Odd, value: Odd])[]): string {
    const all = members.map(([key, value]) =>
      [this.space(), key.bytes, this.space(), ':', this.space(), value.bytes, this.space()].join(''),
    );
    return `{${all.join(',')}}`;
  }
}

/** A text without anything odd about its bytes. */
export function plain(text: string): Odd & { readonly text: string } {
  return oddText(utf8(JSON.stringify(text)).slice(1, -1), text);
}

function oddText(bytes: string, text: string): Odd & { readonly text: string } {
  return { bytes: `"${bytes}"`, means: JSON.stringify(text), text };
}
