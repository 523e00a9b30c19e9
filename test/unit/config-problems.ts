import { expect } from 'vitest';
import { ConfigError, type Environment, loadSettings, type Needs } from '../../src/config/load.ts';

export const NONE: Needs = { database: false, upstream: false };

/** What is wrong with an environment. */
export function problemsOf(env: Environment, needs: Needs = NONE): readonly string[] {
  try {
    loadSettings(env, needs);
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toBe((error as ConfigError).problems.join('\n'));
    return (error as ConfigError).problems;
  }
}
