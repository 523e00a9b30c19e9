import { ConfigError } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { ErasureKey } from '../lib/erasure-key.ts';
import { requireSight } from '../store/row-security.ts';
import { keyFingerprints } from '../store/suppressions.ts';
import type { Forgetting } from '../sync/suppression.ts';
import type { Writing } from '../sync/write.ts';
import type { Replica } from './replica.ts';

/** How records are written, as the settings say. */
export function writingOf(settings: Settings): Writing {
  return {
    history: { on: settings.HISTORY, deletedMessages: settings.DELETED_MESSAGES },
    changes: settings.CHANGES,
    media: settings.MEDIA_STORE !== 'off',
    forgetting: forgettingOf(settings),
  };
}

/** What must not be stored, as the settings say. */
export function forgettingOf({ ERASURE_KEY: key, RETAIN_MESSAGES: retain }: Settings): Forgetting {
  return { key: key === undefined ? undefined : new ErasureKey(key), retain };
}

/**
 * Whoever writes has to see what was erased, and needs the key of it: otherwise that would come back (R20).
 * @throws ConfigError where something was erased under another key than the settings', or they have none. ReplicaError
 * `database_unfit` where rows may be hidden from this role.
 */
export async function requireErasureKey({ control, settings }: Replica): Promise<void> {
  await requireSight(control, settings.WA_REPLICA_SCHEMA);
  const fingerprints = await keyFingerprints(control);
  if (fingerprints.length === 0) return;
  const { key } = forgettingOf(settings);
  if (key === undefined) {
    throw new ConfigError([
      'ERASURE_KEY is not set, and people were erased here: set the key that it was done with',
    ]);
  }
  if (fingerprints.some((one) => one !== key.fingerprint)) {
    throw new ConfigError(['ERASURE_KEY is not the key that people were erased with here: restore that one']);
  }
}
