/** Random JSON as text: what the tests of everything that reads JSON share. Its numbers are written as an upstream
 * may write them, not as JavaScript would. */
import fc from 'fast-check';

/** A number's text: any length, with fraction and exponent; never `-0`, whose sign no jsonb keeps. */
export const numberText: fc.Arbitrary<string> = fc
  .tuple(
    fc.boolean(),
    fc.oneof(fc.nat().map(String), fc.bigInt({ min: 0n, max: 10n ** 40n }).map(String)),
    fc.option(fc.stringMatching(/^[0-9]{1,30}$/), { nil: undefined }),
    fc.option(fc.tuple(fc.constantFrom('e', 'E', 'e+', 'E-'), fc.nat({ max: 300 })), { nil: undefined }),
  )
  .map(
    ([minus, whole, fraction, exponent]) =>
      `${minus ? '-' : ''}${whole}${fraction === undefined ? '' : `.${fraction}`}${exponent?.join('') ?? ''}`,
  )
  .filter((text) => text !== '-0');

/** Text that is awkward inside JSON: quotes, backslashes, brackets, digits, every plane, lone surrogates. */
export const awkwardText: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom('"', '\\', '\\"', '[', ']', '{', '}', ',', ':', '12345678901234567890', '1.50', '\n'),
      fc.string({ unit: 'binary' }),
      fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(''));

const space = fc.constantFrom('', '', ' ', '\n\t', '\r\n  ');

/** JSON text, and the same without white space. */
export interface JsonText {
  readonly text: string;
  readonly compact: string;
}

export const jsonText: fc.Arbitrary<JsonText> = fc.letrec<{ value: JsonText }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.oneof(numberText, fc.constantFrom('true', 'false', 'null'), awkwardText.map(quoted)).map(leaf),
    numberText.map(leaf),
    fc.tuple(space, fc.array(tie('value'), { maxLength: 5 })).map(([gap, elements]) => ({
      text: `[${gap}${elements.map(({ text }) => `${text}${gap}`).join(`,${gap}`)}]`,
      compact: `[${elements.map(({ compact }) => compact).join(',')}]`,
    })),
    fc.tuple(space, entries(tie('value'))).map(([gap, pairs]) => ({
      text: `{${gap}${pairs.map(([key, { text }]) => `${quoted(key)}${gap}:${gap}${text}${gap}`).join(`,${gap}`)}}`,
      compact: `{${pairs.map(([key, { compact }]) => `${quoted(key)}:${compact}`).join(',')}}`,
    })),
  ),
})).value;

/** Keys come once, and none is an array index, which JavaScript would put first. */
function entries(value: fc.Arbitrary<JsonText>): fc.Arbitrary<[string, JsonText][]> {
  const key = fc.oneof(
    fc.constantFrom('__proto__', 'constructor', 'toJSON', ''),
    awkwardText.map((text) => `k${text}`),
  );
  return fc.uniqueArray(fc.tuple(key, value), { selector: ([name]) => name, maxLength: 4 });
}

function leaf(text: string): JsonText {
  return { text, compact: text };
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
