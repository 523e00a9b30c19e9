/**
 * The simulated upstream as a process of its own, told over IPC: `mark` forgets what was asked of it, `report` tells
 * it. Its options come as JSON in the first argument.
 */
import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { startSimulator } from '../../src/simulator/server.ts';
import type { UpstreamReport, UpstreamStarted } from './upstream.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as Partial<SimulatorOptions>;
const simulator = await startSimulator(options);

let report: UpstreamReport = { pages: 0, firstAt: 0 };
simulator.stats.onRequest = ({ route }) => {
  if (route !== 'sync') return;
  report = { pages: report.pages + 1, firstAt: report.firstAt === 0 ? Date.now() : report.firstAt };
};

process.on('message', (wish) => {
  if (wish === 'mark') report = { pages: 0, firstAt: 0 };
  process.send!(report);
});
// Whoever started it is gone.
process.on('disconnect', () => process.exit(0));

const connections = [...simulator.world.connections.values()].map(({ id, messages }) => ({
  id,
  messages: messages.length,
}));
process.send!({ url: simulator.url, connections } satisfies UpstreamStarted);
