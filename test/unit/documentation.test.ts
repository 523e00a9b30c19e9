import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { SETTINGS, type Setting } from '../../src/config/settings.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const ALL = Object.entries<Setting>(SETTINGS);

/** A document as it is now; empty where it is missing, so that every setting is missing in it. */
function document(name: string): string {
  try {
    return readFileSync(path.join(ROOT, name), 'utf8');
  } catch {
    return '';
  }
}

/**
 * The settings in the tables of a Markdown text, by name: rows whose first cell is one name in backquotes, or
 * several with ` / ` between, and whose second cell has the defaults in the same way (`–` for none).
 */
function settingsInTables(markdown: string): Map<string, string | undefined> {
  const found = new Map<string, string | undefined>();
  for (const line of markdown.split('\n')) {
    const [first, second] = line
      .trim()
      .replace(/^\|/, '')
      .split(/(?<!\\)\|/);
    if (!line.trim().startsWith('|') || first === undefined || second === undefined) continue;
    const names = codes(first);
    if (names.length === 0 || !names.every((name) => /^[A-Z][A-Z0-9_]+$/.test(name))) continue;
    const defaults = codes(second);
    for (const [place, name] of names.entries()) found.set(name, defaults[place]);
  }
  return found;
}

/** The texts in backquotes of a cell. */
function codes(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
}

/** The variables of an env file, set or commented out (`# NAME=value`), by name. */
function variablesIn(envFile: string): Map<string, string> {
  const lines = envFile.matchAll(/^(?:#\s?)?([A-Z][A-Z0-9_]+)=(.*)$/gm);
  return new Map([...lines].map((match) => [match[1]!, match[2]!.trim().replace(/^(["'])(.*)\1$/, '$2')]));
}

describe('README.md', () => {
  const table = settingsInTables(document('README.md'));

  test.each(ALL)('has %s in its table of settings, with its default', (name, setting) => {
    expect([...table.keys()]).toContain(name);
    // Beside a default that depends on something (`LOG_FORMAT`) it may have words or a value of its own.
    if (setting.default !== undefined) expect(table.get(name)).toBe(setting.default);
  });

  test('has no setting that there is not', () => {
    const known = ALL.map(([name]) => name);
    expect([...table.keys()].filter((name) => !known.includes(name as never))).toEqual([]);
  });
});

describe('.env.example', () => {
  const variables = variablesIn(document('.env.example'));

  test.each(ALL)('has %s, with its default', (name, setting) => {
    expect([...variables.keys()]).toContain(name);
    if (setting.default !== undefined) expect(variables.get(name)).toBe(setting.default);
  });

  test('has no variable that is no setting', () => {
    const known = ALL.flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name]));
    expect([...variables.keys()].filter((name) => !known.includes(name))).toEqual([]);
  });
});

/** The places of a Markdown text that a link may name, as GitHub calls them. */
function anchorsIn(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

const PAGES = [
  ...['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
  ...readdirSync(path.join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

test.each(PAGES)('%s links to nothing that is not there', (page) => {
  const links = [...document(page).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(
    ([, link, image]) => link ?? image!,
  );
  for (const link of links.filter((one) => !/^https?:/.test(one))) {
    const [file = '', anchor] = link.split('#');
    const target = file === '' ? page : path.join(path.dirname(page), file);
    expect([link, existsSync(path.join(ROOT, target))]).toEqual([link, true]);
    if (anchor !== undefined) expect(anchorsIn(document(target))).toContain(anchor);
  }
});

describe('the reading of these documents', () => {
  test('finds the places that links name', () => {
    expect(anchorsIn('# One\n\n## Errors, and what to do\ntext # no\n')).toEqual([
      'one',
      'errors-and-what-to-do',
    ]);
  });

  test('finds the settings of a table', () => {
    const markdown = [
      '| variable | default | |',
      '|---|---|---|',
      '| `DATABASE_URL` | – | where `PGHOST` works too |',
      '| `PAGE_LIMIT` / `PAGE_LIMIT_MAX` | `500` / `2000` | at first |',
      '| `run [--embedded]` | `x` | a command |',
      'and `LOG_LEVEL` is in no table',
      '',
    ].join('\n');
    expect([...settingsInTables(markdown)]).toEqual([
      ['DATABASE_URL', undefined],
      ['PAGE_LIMIT', '500'],
      ['PAGE_LIMIT_MAX', '2000'],
    ]);
  });

  test('finds the variables of an env file', () => {
    const text =
      '# Where to write.\nDATABASE_URL=postgres://u:p@h/d?x=1\n#PAGE_LIMIT=500\n# LOG_LEVEL="info"\nx=1\n';
    expect([...variablesIn(text)]).toEqual([
      ['DATABASE_URL', 'postgres://u:p@h/d?x=1'],
      ['PAGE_LIMIT', '500'],
      ['LOG_LEVEL', 'info'],
    ]);
    expect([...variablesIn('')]).toEqual([]);
  });
});
