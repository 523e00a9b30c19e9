import type { BenchResult } from './result.ts';
import { idle } from './scale-idle.ts';
import { takeover } from './scale-takeover.ts';
import { webhook } from './scale-webhook.ts';
import { workers } from './scale-workers.ts';
import type { Stage } from './stage.ts';

/** Many connections, one process or several. */
export async function scale(stage: Stage): Promise<BenchResult> {
  const tables = [];
  for (const part of [idle, workers, takeover, webhook]) {
    tables.push(await part(stage));
    // What one part has started is not to disturb the next.
    await stage.clear();
  }
  return { bench: 'scale', about: 'Many connections, in one process and in several.', tables };
}
