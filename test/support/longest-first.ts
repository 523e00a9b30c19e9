import { existsSync } from 'node:fs';
import path from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take long, the longest first. Begun last, one of them would run alone at the end; and a fresh checkout, as
 * CI has, knows nothing of how long they took the last time, so that vitest goes by their sizes.
 */
const LONGEST = [
  'bench/bench',
  'integration/postgres-failures',
  'integration/shares',
  'chaos/chaos',
  'integration/run-command',
  'integration/wake-up',
  'integration/fairness',
  'integration/http',
  'integration/demo',
  'integration/network-failures',
  'integration/sync-command',
  'chaos/frozen-worker',
  'integration/starting-over-bounds',
  'integration/migration-locks',
  'integration/quiet-surfaces',
  'integration/status-command',
  'integration/verify',
  'integration/standstill',
  'integration/starting-over',
].map((name) => path.join(import.meta.dirname, '..', `${name}.test.ts`));

/** The order of the test files: {@link LONGEST}, then what vitest would do. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const gone = LONGEST.filter((file) => !existsSync(file));
    if (gone.length > 0) throw new Error(`test/support/longest-first.ts names ${gone}, which is not there`);
    const rank = ({ moduleId }: TestSpecification) => {
      const place = LONGEST.indexOf(moduleId);
      return place < 0 ? LONGEST.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
