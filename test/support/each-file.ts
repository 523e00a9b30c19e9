import { afterAll, vi } from 'vitest';

/*
 * Test files share processes, since starting one and loading the packages takes longer than most files do. What a file
 * leaves behind must not reach the next: it has the project's own modules anew, with whatever they keep to themselves,
 * and what would end with its process ends with it.
 */

vi.resetModules();

const listeners = new Set(process.listeners('exit'));
const env = JSON.stringify(process.env);

afterAll(() => {
  for (const listener of process.listeners('exit')) {
    if (listeners.has(listener)) continue;
    process.off('exit', listener);
    listener.call(process, 0);
  }
  if (vi.isFakeTimers()) throw new Error('the file leaves false timers behind');
  if (JSON.stringify(process.env) !== env) throw new Error('the file leaves another environment behind');
});
