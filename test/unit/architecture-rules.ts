/**
 * Who may import whom in `src`, and who may do what only few may. Read from the sources' text: the compiler of
 * TypeScript 7 has no API for it, and a bundler's parser would be a dependency for a page of code.
 */
import path from 'node:path';

/** A source file: its path below `src`, with `/`, and its text. */
export interface Source {
  readonly file: string;
  readonly text: string;
}

/** The first part of a path: a folder of `src`, or a file that lies in it. */
type Module = string;

/** What each module may import beside itself. A file under `FILES` has rules of its own instead. */
const MODULES: Readonly<Record<Module, readonly Module[]>> = {
  model: [],
  version: [],
  errors: [],
  entities: ['model'],
  lib: ['model'],
  config: ['lib', 'model'],
  upstream: ['lib', 'model', 'errors'],
  store: ['lib', 'model', 'errors', 'entities'],
  crm: ['store', 'lib', 'model', 'errors'],
  sync: ['upstream', 'store', 'lib', 'model', 'errors', 'entities'],
  media: ['sync', 'upstream', 'store', 'lib', 'model', 'errors'],
  verify: ['sync', 'upstream', 'store', 'lib', 'model', 'errors', 'entities'],
  ops: ['verify', 'media', 'sync', 'crm', 'store', 'lib', 'model', 'errors', 'version'],
  replica: ['config', 'sync', 'upstream', 'store', 'lib', 'model', 'errors', 'version'],
  simulator: ['model'],
  embedded: [],
  demo: ['simulator', 'embedded', 'store', 'lib', 'model', 'errors', 'entities'],
  cli: [
    'config',
    'crm',
    'embedded',
    'errors',
    'lib',
    'media',
    'model',
    'ops',
    'replica',
    'store',
    'sync',
    'verify',
    'version',
  ],
  main: ['cli', 'config', 'errors', 'ops'],
  bin: ['main'],
};

/** Files that may import more than their module: all of another, or one file of it. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  // Tells what to do about an embedded Postgres that does not start.
  'main.ts': ['embedded/errors.ts'],
  'cli/demo.ts': ['demo', 'simulator'],
  'cli/simulate.ts': ['simulator'],
  // Asks the upstream itself.
  'ops/doctor/upstream.ts': ['upstream'],
  // Manages the upstream's endpoints, which is no part of replicating.
  'cli/webhook.ts': ['upstream'],
  // Gives verifications the upstream's lists.
  'cli/verifying.ts': ['upstream'],
  // Gives the archive a client of its own.
  'cli/archiving.ts': ['upstream'],
};

/** Who opens a write transaction: a page's, a reset's (R6), and the other writers (R22). Each locks the state row. */
const WRITERS = [
  'sync/apply.ts',
  'sync/discard.ts',
  'sync/naming.ts',
  'media/missed.ts',
  'sync/erase.ts',
  'sync/recovery.ts',
  'sync/retention.ts',
  'sync/retry.ts',
  'verify/note.ts',
  'verify/repair.ts',
  'cli/resync.ts',
];

/** Where a transaction is begun, for all of them with the same isolation. */
const BEGINNER = 'store/transaction.ts';

/** Change the schema, under a lock that keeps others of their kind away. */
const OF_THE_SCHEMA: readonly string[] = ['store/migrator.ts', 'store/mends.ts'];

/** Who may touch the process. Everything else is given what it needs of it; a password file is found as pg finds the
 * rest of libpq's variables. */
const OF_THE_PROCESS = /^(?:main\.ts|bin\.ts|store\/passfile\.ts|(?:cli|demo|embedded)\/)/;

const MOST_LINES = 300;

/** Every breach of the rules, as `file: what`. */
export function breaches(sources: readonly Source[], packages: readonly string[]): string[] {
  return sources.flatMap((source) => {
    const { file } = source;
    const code = withoutComments(source.text);
    const found = importsOf(source).flatMap((specifier) => importBreach(file, specifier, packages) ?? []);
    if (moduleOf(file) in MODULES === false) found.push('is in a module without rules');
    if (file !== BEGINNER && /\.transaction\(/.test(code)) found.push('begins a transaction by itself');
    if (!OF_THE_SCHEMA.includes(file) && file !== BEGINNER && /\binTransaction\(/.test(code)) {
      if (!WRITERS.includes(file)) found.push('opens a transaction');
      if (!/\blockStates?\(/.test(code)) found.push('opens a transaction without lockState');
    }
    if (/\bprocess\s*[.[]|['"](?:node:)?process['"]/.test(code) && !OF_THE_PROCESS.test(file)) {
      found.push('touches the process');
    }
    const lines = source.text.trimEnd().split('\n').length;
    if (lines > MOST_LINES) found.push(`has ${lines} lines`);
    return found.map((what) => `${file}: ${what}`);
  });
}

/** What a file imports, exports from, or loads later; in the order in which it stands there. */
export function importsOf({ text }: Source): string[] {
  const code = withoutComments(text);
  const statement = /(?:^|[;}]|\n)\s*(?:import|export)\b(?:[^'"`;=()]*?\bfrom)?\s*(['"])([^'"\n]+)\1/g;
  const call = /\b(?:import|require)\s*\(\s*(['"`])([^'"`\n]+)\1/g;
  return [statement, call].flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[2]!));
}

function importBreach(file: string, specifier: string, packages: readonly string[]): string | undefined {
  if (specifier.startsWith('node:')) {
    return file === 'model.ts' ? `imports ${specifier}` : undefined;
  }
  if (!specifier.startsWith('.')) {
    const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
    if (file === 'model.ts') return `imports ${specifier}`;
    return packages.includes(name) ? undefined : `imports ${name}, which is no dependency`;
  }
  const target = path.posix.join(path.posix.dirname(file), specifier);
  if (target === '../package.json' && file === 'version.ts') return undefined;
  if (target.startsWith('..')) return `imports ${specifier}, outside src`;
  const from = moduleOf(file);
  const to = moduleOf(target);
  const may = [from, ...(MODULES[from] ?? []), ...(FILES[file] ?? [])];
  return may.includes(to) || may.includes(target) ? undefined : `imports ${target}`;
}

function moduleOf(file: string): Module {
  return file.split('/')[0]!.replace(/\.ts$/, '');
}

/** Comments begin at the start of a line or after white space, so that `https://` in a string is none. */
function withoutComments(text: string): string {
  return text.replace(/(^|\s)\/\*[\s\S]*?\*\//g, '$1').replace(/(^|\s)\/\/.*$/gm, '$1');
}
