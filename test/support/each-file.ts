import { afterAll, vi } from 'vitest';

/*
 * Test files share processes, since starting one and loading the packages takes longer than most files do. What a file
 * leaves behind must not reach the next: it has the project's own modules anew, with whatever they keep to themselves,
 * and what would end with its process ends with it.
 */

vi.resetModules();

const listeners = new Set(process.listeners('exit'));
const env = { ...process.env };

afterAll(() => {
  for (const listener of process.listeners('exit')) {
    if (listeners.has(listener)) continue;
    process.off('exit', listener);
    listener.call(process, 0);
  }
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
  if (vi.isFakeTimers()) throw new Error('the file leaves false timers behind');
});
