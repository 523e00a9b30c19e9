/** `wa-replica simulate`: the simulated upstream alone, as a server, until it is told to stop. */
import process from 'node:process';
import { Command, Option } from 'commander';
import { DEFAULTS, type SimulatorOptions } from '../simulator/options.ts';
import { CommandFailed } from './terminal.ts';

interface Given {
  readonly port: string;
  readonly host: string;
  readonly connections: string;
  readonly messages: string;
  readonly seed: string;
  readonly live: string;
  readonly latency: string;
  readonly faults: string;
  readonly apiKey: string;
}

export function simulateCommand(): Command {
  return new Command('simulate')
    .description('the simulated upstream alone, as a server')
    .addOption(option('--port <port>', 'the port to listen on; 0 = any free one', '8600'))
    .addOption(option('--host <address>', 'the address to listen on', DEFAULTS.host))
    .addOption(option('--connections <n>', 'how many WhatsApp accounts there are', DEFAULTS.connections))
    .addOption(option('--messages <n>', 'how many messages they hold in all', DEFAULTS.messages))
    .addOption(option('--seed <n>', 'the same seed makes the same world', DEFAULTS.seed))
    .addOption(option('--live <changes/s>', 'how much happens while it serves', '0'))
    .addOption(option('--latency <ms>', 'wait before every answer', '0'))
    .addOption(option('--faults <rate>', 'the share of requests that go wrong, 0 to 1', '0'))
    .addOption(option('--api-key <key>', 'the key that clients must send', DEFAULTS.apiKey))
    .addHelpText(
      'after',
      '\nSettings of the daemon for it: WHATSAPP_USE_BASE_URL=<url> WHATSAPP_USE_API_KEY=<key>',
    )
    .action(async (given: Given, command: Command) => {
      const { options, problems } = parse(given);
      if (problems.length > 0) command.error(`error: ${problems.join('\nerror: ')}`, { exitCode: 2 });
      await serve(options);
    });
}

/** Its default is shown without the quotes of a text. */
function option(flags: string, description: string, value: unknown): Option {
  return new Option(flags, description).default(String(value), String(value));
}

async function serve(options: Partial<SimulatorOptions>): Promise<void> {
  // Loaded here, not above: every other command starts without it.
  const { startSimulator } = await import('../simulator/server.ts');
  const simulator = await startSimulator(options).catch((error: unknown) => {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new CommandFailed(`cannot listen on ${options.host} port ${options.port} (${code})`);
  });
  const ids = [...simulator.world.connections.keys()].join(',');
  process.stdout.write(`${simulator.url} key=${options.apiKey} connections=${ids} seed=${options.seed}\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  await simulator.close();
}

/** Every problem at once, each with what is expected. */
function parse(given: Given): { options: Partial<SimulatorOptions>; problems: readonly string[] } {
  const problems: string[] = [];
  const number = (name: string, text: string, greatest: number, whole: boolean): number => {
    const value = Number(text);
    const wellFormed = whole ? /^\d+$/.test(text) : /^\d*\.?\d+$/.test(text);
    if (wellFormed && value <= greatest) return value;
    const kind = whole ? 'a whole number' : 'a number';
    problems.push(`${name} must be ${kind} from 0 to ${greatest}, not "${text}"`);
    return 0;
  };
  const options = {
    port: number('--port', given.port, 65_535, true),
    host: given.host,
    connections: number('--connections', given.connections, 1000, true),
    messages: number('--messages', given.messages, 5_000_000, true),
    seed: number('--seed', given.seed, 4_294_967_295, true),
    live: number('--live', given.live, 100_000, false),
    latencyMs: number('--latency', given.latency, 600_000, false),
    faults: number('--faults', given.faults, 1, false),
    apiKey: given.apiKey,
  };
  if (!/^\S+$/.test(given.apiKey)) problems.push('--api-key must not be empty or hold spaces');
  if (given.host === '') problems.push('--host must not be empty');
  return { options, problems };
}
