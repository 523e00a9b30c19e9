import { parseEnv } from 'node:util';
import { SETTINGS, type Setting } from './settings.ts';

/** An entry as Node reads it: what stands in quotes may have several lines; quotes that do not end are part of the value. */
const ENTRY =
  /[ \t]*(?:export[ \t]+)?(?<name>[A-Za-z_][\w.-]*)[ \t]*=(?<blanks>[ \t]*)(?<quoted>"[^"]*"|'[^']*'|`[^`]*`)?(?<rest>[^\n]*)\n/y;
const NOTHING = /[ \t]*(?:#[^\n]*)?\n/y;
const LINE = /[^\n]*\n/y;

/** Behind a `=` with nothing but blanks after it Node takes the next line for the value. */
const EMPTY = /^([ \t]*(?:export[ \t]+)?[A-Za-z_][\w.-]*[ \t]*=)[ \t]+$/gm;

/** Where Node ends a value that is not in quotes: at its first `#`, here with no blank before it. */
const HASH = /^(?:[^#]*[^#\t ])?#/;

const BY_NAME: ReadonlyMap<string, Setting> = new Map(Object.entries(SETTINGS));

const REMEDY = "put the whole value in '…', or in \"…\" or `…` where it holds a '";

export interface EnvFile {
  /** A setting that is a secret and was cut is empty here. */
  readonly values: Readonly<Record<string, string | undefined>>;
  /** Lines that set nothing, and those of whose value Node drops a part: with their numbers, and nothing of their text,
   * which may be a secret; but for the name where that is a setting's. */
  readonly warnings: readonly string[];
}

/**
 * Reads the text of a `.env` file. What is odd in it is warned of, and what the settings make of the rest decides, for a
 * file may have lines for other programs. A secret of ours that is cut is a mistake beyond that: a token of which only
 * the beginning counts would pass, and be easily guessed. It is read as empty, which `examineSettings` refuses for a
 * secret, together with every other problem, and only where the environment does not set it.
 */
export function readEnvFile(text: string): EnvFile {
  const lines = text
    .replace(/^\ufeff/, '')
    .replaceAll('\r', '')
    .replace(EMPTY, '$1');
  const { warnings, cutSecrets } = oddLines(`${lines}\n`);
  const values = parseEnv(lines);
  for (const name of cutSecrets) values[name] = '';
  return { values, warnings };
}

function oddLines(text: string): { warnings: string[]; cutSecrets: Set<string> } {
  const warnings: string[] = [];
  const cutSecrets = new Set<string>();
  for (let at = 0, line = 1; at < text.length; ) {
    const taken = (form: RegExp) => {
      form.lastIndex = at;
      return form.exec(text);
    };
    const entry = taken(ENTRY);
    let piece = entry ?? taken(NOTHING);
    if (piece === null) {
      warnings.push(`.env, line ${line}: is not of the form NAME=value, and sets nothing`);
      piece = taken(LINE)!;
    }
    if (entry !== null) {
      const name = entry.groups!.name!;
      const setting = BY_NAME.get(name);
      // Of several entries of one name the last counts.
      cutSecrets.delete(name);
      const cut = whereCut(entry.groups!);
      if (cut !== undefined) {
        if (setting?.secret) cutSecrets.add(name);
        const what = setting === undefined ? 'the value' : name;
        const then = setting?.secret ? '; a secret that is cut counts as empty' : '';
        warnings.push(`.env, line ${line}: ${what} is cut ${cut}${then}`);
      }
    }
    at += piece[0].length;
    line += piece[0].split('\n').length - 1;
  }
  return { warnings, cutSecrets };
}

/** Where Node drops a part of the value that is no comment, and the remedy. */
function whereCut({ blanks, quoted, rest }: Record<string, string | undefined>): string | undefined {
  if (quoted !== undefined) {
    if (!/^[ \t]*[^#\t ]/.test(rest!)) return undefined;
    return `at a closing quote, with more behind it: ${REMEDY}`;
  }
  // Quotes that do not end keep a # in the value.
  if (/^["'`]/.test(rest!) || !HASH.test(`${blanks}${rest}`)) return undefined;
  return `at a # without a blank before it: ${REMEDY}; or a blank before the #, if it begins a comment`;
}
