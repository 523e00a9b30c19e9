import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { codeOf, type ErrorKind, ReplicaError } from '../errors/errors.ts';
import { plural } from '../lib/plural.ts';
import { openUpstream } from '../replica/replica.ts';
import { type WebhookEndpoint, WebhookEndpoints } from '../upstream/webhooks.ts';
import { connectionOption } from './connection-option.ts';
import { readSettings } from './session.ts';
import { CommandFailed, printable, type Terminal, written } from './terminal.ts';
import { textTable } from './text-table.ts';

/** Where the daemon takes events. */
const ROUTE = '/webhooks/whatsapp-use';

const ABOUT_KEYS = `
The key needs the scope webhooks:manage. Of several keys in WHATSAPP_USE_API_KEY (one per organization) the first
is used, or the one that --key names by its place, from 1: each organization has endpoints of its own. No database
is needed.`;

interface KeyOption {
  readonly key?: number;
}

interface CreateOptions extends KeyOption {
  readonly url: URL;
  readonly connection?: readonly string[];
  readonly secretFile?: string;
}

/** `wa-replica webhook`: the endpoints at the upstream that make messages arrive within a second. */
export function webhookCommand(terminal: Terminal): Command {
  const command = new Command('webhook')
    .description('manages the endpoints to which the upstream sends events, so that nothing waits for a poll')
    .addHelpText('after', ABOUT_KEYS);
  command.addCommand(
    withKey(new Command('create'))
      .description('registers a URL for message and connection events, and tells its secret once')
      .requiredOption('--url <url>', `of the daemon, as the upstream reaches it: https://…${ROUTE}`, parseUrl)
      .addOption(connectionOption())
      .option('--secret-file <path>', 'writes the secret to a new file of mode 0600 instead of showing it')
      .action((options: CreateOptions) => create(terminal, options)),
  );
  command.addCommand(
    withKey(new Command('list'))
      .description('lists the endpoints')
      .action((options: KeyOption) => list(terminal, options)),
  );
  command.addCommand(
    withKey(new Command('delete'))
      .description('deletes an endpoint')
      .argument('<id>')
      .action((id: string, options: KeyOption) => remove(terminal, id, options)),
  );
  command.addCommand(
    withKey(new Command('test'))
      .description("has the upstream send a sample event to an endpoint's URL")
      .argument('<id>')
      .action((id: string, options: KeyOption) => test(terminal, id, options)),
  );
  return command;
}

function withKey(command: Command): Command {
  return command
    .option('--key <n>', 'which of several keys, by its place, from 1', (text) => {
      if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError('a place from 1 is wanted');
      return Number(text);
    })
    .addHelpText('after', ABOUT_KEYS);
}

function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new InvalidArgumentError('an http or https URL is wanted');
  }
  return url;
}

async function create(
  terminal: Terminal,
  { url, connection = [], secretFile, key }: CreateOptions,
): Promise<void> {
  const { stdout, stderr } = terminal;
  if (url.protocol === 'http:') {
    stderr.write(
      'wa-replica: plain http: anyone on the way can read the events and keep them back; use https\n',
    );
  }
  if (!url.pathname.endsWith(ROUTE)) {
    stderr.write(
      `wa-replica: the daemon takes events at ${ROUTE}; what is in front of it must rewrite the path\n`,
    );
  }
  await onEndpoints(terminal, { key }, async (endpoints) => {
    const file = secretFile === undefined ? undefined : reserve(path.resolve(secretFile));
    let endpoint: WebhookEndpoint;
    try {
      endpoint = await endpoints.create(url.href, connection, terminal.signal);
    } catch (error) {
      file?.discard();
      if (mayHaveCreated(error, terminal.signal)) stderr.write(MAY_BE_THERE);
      throw error;
    }
    const { id, secret } = endpoint;
    const whose = connection.length === 0 ? 'all connections' : connection.join(', ');
    const created = `created ${printable(id)} for ${whose}\n`;
    if (secret === undefined) {
      file?.discard();
      throw new CommandFailed(`the upstream told no secret; delete ${printable(id)} and create another`);
    }
    if (file?.write(secret)) {
      stdout.write(created + stored(file.path));
      return;
    }
    await written(terminal, created + shown(secret)).catch(() => {
      throw new CommandFailed(`nobody was told the secret; delete ${printable(id)} and create another`);
    });
  });
}

const MAY_BE_THERE = 'wa-replica: it may have been created all the same; see `wa-replica webhook list`\n';

/** Whether the request may have arrived, and only its answer is missing. */
function mayHaveCreated(error: unknown, signal: AbortSignal): boolean {
  const lost: readonly ErrorKind[] = ['network', 'timeout', 'upstream', 'not_ready', 'protocol', 'oversize'];
  return signal.aborted || (error instanceof ReplicaError && lost.includes(error.kind));
}

function shown(secret: string): string {
  return `secret: ${secret}

It is shown only now. Give it to \`wa-replica run\` as
  WEBHOOK_SECRET=${secret}
or in a file that only its account can read (mode 0600), as WEBHOOK_SECRET_FILE=/path/of/the/file.
While secrets are exchanged both may be given, with a comma between.
`;
}

function stored(file: string): string {
  return `the secret is in ${file}; give it to \`wa-replica run\` as
  WEBHOOK_SECRET_FILE=${file}
`;
}

/** A new file for the secret, made before there is one: what cannot be written would be lost. */
function reserve(file: string): { path: string; discard: () => void; write: (secret: string) => boolean } {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    throw new CommandFailed(`cannot make the file ${file} (${codeOf(error)}); nothing was created`, 2);
  }
  return {
    path: file,
    discard: () => unlinkSync(file),
    write(secret) {
      try {
        writeFileSync(file, `${secret}\n`);
        return true;
      } catch {
        // Better on the screen than nowhere.
        unlinkSync(file);
        return false;
      }
    },
  };
}

async function list(terminal: Terminal, options: KeyOption): Promise<void> {
  await onEndpoints(terminal, options, async (endpoints) => {
    const all = await endpoints.list(terminal.signal);
    if (all.length > 0) {
      const head = ['id', 'enabled', 'connections', 'events', 'url'];
      const rows = all.map(({ id, enabled, connectionIds, eventTypes, url }) => [
        id,
        enabled ? 'yes' : 'no',
        connectionIds?.join(', ') ?? 'all',
        eventTypes.map((type) => type.replace(/^whatsapp\./, '')).join(', '),
        url,
      ]);
      terminal.stdout.write(textTable(head, rows));
    }
    terminal.stdout.write(`${plural(all.length, 'endpoint')}\n`);
  });
}

async function remove(terminal: Terminal, id: string, options: KeyOption): Promise<void> {
  await onEndpoints(terminal, options, async (endpoints) => {
    await endpoints.delete(id, terminal.signal);
    terminal.stdout.write(`deleted ${id}\n`);
  });
}

async function test(terminal: Terminal, id: string, options: KeyOption): Promise<void> {
  await onEndpoints(terminal, options, async (endpoints) => {
    const status = await endpoints.test(id, terminal.signal);
    if (status !== undefined && (status < 200 || status > 299)) {
      const what = status === 0 ? 'could not be reached' : `answered ${status}`;
      const advice =
        status === 401 ? ': WEBHOOK_SECRET of the daemon is not the secret of this endpoint' : '';
      throw new CommandFailed(`the URL of ${id} ${what}${advice}`);
    }
    const answer =
      status === undefined ? 'the upstream does not tell what it answered' : `it answered ${status}`;
    terminal.stdout.write(`a sample was sent to the URL of ${id}: ${answer}\n`);
  });
}

/** Runs `work` with the endpoints of the key that was chosen. */
async function onEndpoints(
  terminal: Terminal,
  { key: place }: { readonly key?: number | undefined },
  work: (endpoints: WebhookEndpoints) => Promise<void>,
): Promise<void> {
  const settings = readSettings(terminal, { database: false, upstream: true });
  const { upstream, keys } = openUpstream(settings, terminal.env);
  const key = keys[(place ?? 1) - 1];
  if (key === undefined) throw new CommandFailed(`--key ${place}: there are ${keys.length} keys`, 2);
  if (place === undefined && keys.length > 1) {
    terminal.stderr.write(`wa-replica: with the first of ${keys.length} keys; --key names another\n`);
  }
  try {
    await work(new WebhookEndpoints(upstream, key));
  } finally {
    await upstream.close();
  }
}
