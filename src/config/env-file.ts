import { parseEnv } from 'node:util';

/** An entry as Node reads it: what stands in quotes may have several lines; quotes that do not end are part of the value. */
const ENTRY = /[ \t]*(?:export[ \t]+)?[A-Za-z_][\w.-]*[ \t]*=[ \t]*(?:"[^"]*"|'[^']*'|`[^`]*`)?[^\n]*\n/y;
const NOTHING = /[ \t]*(?:#[^\n]*)?\n/y;
const LINE = /[^\n]*\n/y;

/** Behind a `=` with nothing but blanks after it Node takes the next line for the value. */
const EMPTY = /^([ \t]*(?:export[ \t]+)?[A-Za-z_][\w.-]*[ \t]*=)[ \t]+$/gm;

export interface EnvFile {
  readonly values: Readonly<Record<string, string | undefined>>;
  /** Lines that set nothing, which Node passes over: with their numbers, and nothing of their text, which may be a
   * secret. */
  readonly warnings: readonly string[];
}

/** Reads the text of a `.env` file. */
export function readEnvFile(text: string): EnvFile {
  const lines = text
    .replace(/^\ufeff/, '')
    .replaceAll('\r', '')
    .replace(EMPTY, '$1');
  return { values: parseEnv(lines), warnings: oddLines(`${lines}\n`) };
}

function oddLines(text: string): string[] {
  const odd: string[] = [];
  for (let at = 0, line = 1; at < text.length; ) {
    const taken = (form: RegExp) => {
      form.lastIndex = at;
      return form.exec(text)?.[0];
    };
    let piece = taken(ENTRY) ?? taken(NOTHING);
    if (piece === undefined) {
      odd.push(`.env, line ${line}: is not of the form NAME=value, and sets nothing`);
      piece = taken(LINE)!;
    }
    at += piece.length;
    line += piece.split('\n').length - 1;
  }
  return odd;
}
