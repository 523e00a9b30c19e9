import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { breaches, importsOf, type Source } from './architecture-rules.ts';

const SRC = path.join(import.meta.dirname, '../../src');
const PACKAGES = Object.keys(packageJson.dependencies);

function sources(): Source[] {
  return globSync('**/*.ts', { cwd: SRC }).map((file) => ({
    file: file.replaceAll(path.sep, '/'),
    text: readFileSync(path.join(SRC, file), 'utf8'),
  }));
}

/** What is wrong with one made-up file. */
function wrong(file: string, text: string): string[] {
  return breaches([{ file, text }], PACKAGES).map((breach) => breach.slice(file.length + 2));
}

test('the sources keep to the architecture', () => {
  expect(breaches(sources(), PACKAGES)).toEqual([]);
});

test('the sources are all read, and their imports found', () => {
  const imports = new Map(sources().map((source) => [source.file, importsOf(source)]));
  expect(imports.size).toBeGreaterThan(60);
  expect(imports.get('model.ts')).toEqual([]);
  expect(imports.get('bin.ts')).toEqual(['node:v8', './main.ts']);
  expect(imports.get('sync/normalise.ts')).toContain('../lib/exact-json.ts');
  expect(imports.get('cli/demo.ts')).toContain('../demo/demo.ts');
  expect(imports.get('version.ts')).toEqual(['../package.json']);
  // In braces over several lines.
  expect(imports.get('sync/apply.ts')).toContain('../store/state.ts');
});

describe('a forbidden import is found', () => {
  test.each([
    ['model.ts', './lib/text.ts'],
    ['model.ts', './entities.ts'],
    ['errors/errors.ts', '../entities.ts'],
    ['lib/text.ts', '../errors/errors.ts'],
    ['lib/text.ts', '../store/state.ts'],
    ['config/load.ts', '../store/state.ts'],
    ['upstream/client.ts', '../store/state.ts'],
    ['upstream/client.ts', '../sync/turn.ts'],
    ['upstream/client.ts', '../config/settings.ts'],
    ['store/state.ts', '../upstream/page.ts'],
    ['store/state.ts', '../sync/turn.ts'],
    ['store/state.ts', '../ops/logger.ts'],
    ['store/state.ts', '../cli/run.ts'],
    ['store/state.ts', '../config/settings.ts'],
    ['sync/turn.ts', '../ops/logger.ts'],
    ['sync/turn.ts', '../config/settings.ts'],
    ['sync/turn.ts', '../cli/run.ts'],
    ['sync/turn.ts', '../replica/replica.ts'],
    ['sync/turn.ts', '../simulator/server.ts'],
    ['ops/logger.ts', '../upstream/client.ts'],
    ['ops/logger.ts', '../config/settings.ts'],
    ['ops/logger.ts', '../cli/run.ts'],
    ['replica/replica.ts', '../cli/run.ts'],
    ['replica/replica.ts', '../embedded/server.ts'],
    ['simulator/world.ts', '../lib/text.ts'],
    ['simulator/world.ts', '../upstream/page.ts'],
    ['cli/run.ts', '../simulator/server.ts'],
    ['cli/run.ts', '../demo/demo.ts'],
    ['cli/simulate.ts', '../demo/demo.ts'],
    ['embedded/server.ts', '../store/database.ts'],
    ['main.ts', './replica/replica.ts'],
    ['main.ts', './embedded/server.ts'],
    ['bin.ts', './cli/program.ts'],
  ])('%s of %s', (file, specifier) => {
    const target = path.posix.join(path.posix.dirname(file), specifier);
    const forms = [
      `import { a } from '${specifier}';`,
      `import type { A } from "${specifier}";`,
      `import {\n  type A,\n  b as c,\n} from '${specifier}';`,
      `import '${specifier}';`,
      `import a, * as b from '${specifier}'`,
      `export * from '${specifier}';`,
      `export type { A } from '${specifier}';`,
      `const { a } = await import('${specifier}');`,
      `const a = () => import(\n  \`${specifier}\`,\n);`,
      `let a: import('${specifier}').A;`,
    ];
    for (const form of forms) {
      expect([form, wrong(file, `const a = 'b';\n${form}\n`)]).toEqual([form, [`imports ${target}`]]);
    }
  });

  test.each([
    ['sync/turn.ts', '../../test/support/wait.ts', 'outside src'],
    ['sync/turn.ts', '../../package.json', 'outside src'],
    ['store/state.ts', 'lodash', 'lodash, which is no dependency'],
    ['store/state.ts', 'vitest', 'vitest, which is no dependency'],
    ['store/state.ts', '@scope/name/sub', '@scope/name, which is no dependency'],
    ['store/state.ts', 'fs', 'fs, which is no dependency'],
    ['model.ts', 'node:fs', 'node:fs'],
    ['model.ts', 'pino', 'pino'],
  ])('%s of %s', (file, specifier, what) => {
    expect(wrong(file, `import a from '${specifier}';`)).toEqual([expect.stringContaining(what)]);
  });

  test.each([
    ['sync/turn.ts', '../store/state.ts'],
    ['sync/turn.ts', './loop.ts'],
    ['store/database.ts', 'kysely/migration'],
    ['store/database.ts', 'node:fs'],
    ['cli/simulate.ts', '../simulator/server.ts'],
    ['version.ts', '../package.json'],
  ])('and %s may import %s', (file, specifier) => {
    expect(wrong(file, `import a from '${specifier}';`)).toEqual([]);
  });

  test('but not in a comment or a text', () => {
    const text = [
      "/** import { a } from '../cli/run.ts'; */",
      "// import '../cli/run.ts';",
      "  /* export * from '../cli/run.ts' */",
      "const help = `see https://example.com and import`; // from '../cli/run.ts'",
    ].join('\n');
    expect(wrong('sync/turn.ts', text)).toEqual([]);
  });
});

describe('what only few may do is found', () => {
  const locked = 'await lockState(trx, connectionId);';

  test.each([
    ['store/upsert.ts', 'await inTransaction(db, BESIDE, async () => {});'],
    ['sync/turn.ts', 'await inTransaction(\n  context.db, limits, write);'],
    ['cli/run.ts', 'await inTransaction(db, BESIDE, write);'],
  ])('a transaction of %s', (file, text) =>
    expect(wrong(file, `${text}\n${locked}`)).toEqual(['opens a transaction']),
  );

  test.each(['sync/apply.ts', 'store/migrator.ts'])('one that %s begins by itself', (file) => {
    const text = 'await context.db\n  .transaction()\n  .execute(write);';
    expect(wrong(file, text)).toEqual(['begins a transaction by itself']);
    expect(wrong('store/transaction.ts', text)).toEqual([]);
  });

  test.each(['sync/apply.ts', 'cli/resync.ts'])('but of %s only one without the lock', (file) => {
    const text = 'await inTransaction(db, BESIDE, write);';
    expect(wrong(file, `${text}\n${locked}`)).toEqual([]);
    expect(wrong(file, `${text}\n// ${locked}`)).toEqual(['opens a transaction without lockState']);
  });

  test.each([
    ['sync/turn.ts', 'process.exit(1);'],
    ['lib/wait.ts', 'const { env } = globalThis.process;\nprocess.on("x", y);'],
    ['config/load.ts', "const home = process['env'].HOME;"],
    ['ops/logger.ts', "import process from 'node:process';"],
    ['store/state.ts', "import { env } from 'process';"],
    ['simulator/server.ts', 'process.stdout.write(x);'],
    ['replica/replica.ts', 'process.pid;'],
  ])('%s touching the process', (file, text) => expect(wrong(file, text)).toContain('touches the process'));

  test.each([
    'main.ts',
    'bin.ts',
    'cli/run.ts',
    'demo/daemon.ts',
    'embedded/account.ts',
    'store/passfile.ts',
  ])('but not %s, nor the word in a comment', (file) => {
    expect(wrong(file, 'process.exit(1);')).toEqual([]);
    expect(wrong('sync/turn.ts', '// drawn per process.\n/** the only user of process.env */\n')).toEqual([]);
  });
});

test('a file of over 300 lines is found, and a module without rules', () => {
  expect(wrong('sync/turn.ts', 'x;\n'.repeat(300))).toEqual([]);
  expect(wrong('sync/turn.ts', 'x;\n'.repeat(301))).toEqual(['has 301 lines']);
  expect(wrong('helpers/text.ts', 'x;')).toEqual(['is in a module without rules']);
});
