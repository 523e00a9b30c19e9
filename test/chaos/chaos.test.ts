import { expect, inject, test } from 'vitest';
import { CRASH_POINTS } from '../../src/sync/crash-points.ts';
import { runCampaign, total } from './campaign.ts';

/** Enough for every crash point, and for each of the other misfortunes once. */
const KILLS = 14;

test('killed at every crash point and at random, nothing is lost, doubled or stuck', async () => {
  const seed = inject('seed');
  const lines: string[] = [];
  const sum = await runCampaign({ seed, kills: KILLS, lanes: 1, note: (line) => lines.push(line) });
  const again = `npm run test:chaos -- --kills ${KILLS} --seed ${seed}`;
  const story = [`to run it again: ${again}`, ...lines, sum.log ?? ''].join('\n');
  expect(sum.breaches, story).toEqual([]);
  expect(total(sum.kills), story).toBe(KILLS);
  expect(Object.keys(sum.kills), story).toEqual(expect.arrayContaining([...CRASH_POINTS]));
  expect(total(sum.postgresDeaths), story).toBeGreaterThan(0);
}, 300_000);
