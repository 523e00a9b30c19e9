import type { Kysely } from 'kysely';
import { sqlstate } from '../../errors/errors.ts';
import type { ErasureKey } from '../../lib/erasure-key.ts';
import type { Database } from '../../store/schema.ts';
import { keyFingerprints } from '../../store/suppressions.ts';
import { type Finding, ok, problem } from './finding.ts';

/** What is missing or refused there, other findings tell of: no such table (nor schema), or privilege. */
const NO_TABLE: ReadonlySet<string> = new Set(['42P01', '42501']);

/** Checks that ERASURE_KEY is the one that people were erased with; says nothing where neither is there, or the tables
 * are not. */
export async function checkErasure(db: Kysely<Database>, key: ErasureKey | undefined): Promise<Finding[]> {
  const fingerprints = await keyFingerprints(db).catch((error: unknown) => {
    if (NO_TABLE.has(sqlstate(error) ?? '')) return undefined;
    throw error;
  });
  if (fingerprints === undefined) return [];
  if (fingerprints.length === 0) {
    return key === undefined ? [] : [ok('erasure: ERASURE_KEY is set; nobody was erased yet')];
  }
  if (key === undefined) {
    return [
      problem(
        'erasure: people were erased, and ERASURE_KEY is not set: nothing is written',
        'set the key that it was done with, in every process that writes',
      ),
    ];
  }
  return fingerprints.every((one) => one === key.fingerprint)
    ? [ok('erasure: ERASURE_KEY is the key that people were erased with')]
    : [
        problem(
          'erasure: ERASURE_KEY is not the key that people were erased with: nothing is written',
          'restore that one',
        ),
      ];
}
