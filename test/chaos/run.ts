/** `npm run test:chaos -- [--kills N] [--seed S] [--verbose] [--json]`: exits 1 where anything is lost, doubled or stuck. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runCampaign, total } from './campaign.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    lanes: { type: 'string', default: '3' },
    verbose: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const [kills, seed, lanes] = [values.kills, values.seed, values.lanes].map(Number) as [
  number,
  number,
  number,
];
if (![kills, seed, lanes].every((one) => Number.isInteger(one) && one >= 0 && one < 2 ** 31) || lanes < 1) {
  console.error('--kills, --seed and --lanes want whole numbers from 0 to 2147483647');
  process.exit(2);
}

const again = `npm run test:chaos -- --kills ${kills} --seed ${seed}`;
if (!values.json) console.log(`chaos: ${kills} kills, seed ${seed}; to run it again: ${again}`);
const startedAt = performance.now();
const note = (line: string) => {
  if (values.verbose || / done in /.test(line)) console.error(line);
};
const sum = await runCampaign({ seed, kills, lanes, note });
const seconds = (performance.now() - startedAt) / 1000;

const list = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
if (values.json) {
  const { log: _, ...figures } = sum;
  console.log(JSON.stringify({ ...figures, seed, lanes, seconds }));
  process.exit(sum.breaches.length > 0 ? 1 : 0);
}
console.log(`kills            ${total(sum.kills)} (${list(sum.kills)})`);
console.log(`Postgres deaths  ${total(sum.postgresDeaths)} (${list(sum.postgresDeaths)})`);
console.log(`also             ${list(sum.others)}`);
console.log(`network faults   ${total(sum.faults)} (${list(sum.faults)})`);
console.log(`written          ${sum.pages} pages, ${sum.rows} rows`);
console.log(`time             ${seconds.toFixed(1)} s, seed ${seed}`);
if (sum.breaches.length > 0) {
  console.error(`\nWRONG:\n${sum.breaches.map((breach) => `  ${breach}`).join('\n')}`);
  if (sum.log !== undefined) console.error(`\nthe logs of the last daemons:\n${sum.log}`);
  console.error(`\nto run it again: ${again}`);
  process.exit(1);
}
console.log('nothing lost, nothing doubled, nothing stuck');
process.exit(0);
