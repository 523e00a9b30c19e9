import { styleText } from 'node:util';
import { Command } from 'commander';
import { type Examined, examineSettings } from '../config/load.ts';
import { showsColours } from '../lib/colours.ts';
import { plural } from '../lib/plural.ts';
import { ownerOf } from '../media/owner.ts';
import { checkCrm, checkSearch } from '../ops/doctor/crm.ts';
import { checkDatabase } from '../ops/doctor/database.ts';
import { checkErasure } from '../ops/doctor/erasure.ts';
import { type Finding, notLookedAt, ok } from '../ops/doctor/finding.ts';
import { checkMedia } from '../ops/doctor/media.ts';
import { checkUpstream } from '../ops/doctor/upstream.ts';
import { givenConnections, type Replica } from '../replica/replica.ts';
import { forgettingOf } from '../replica/writing.ts';
import { openStore } from './archiving.ts';
import { contactsOf } from './linking.ts';
import { withReplica } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';

const SIGNS = { ok: '✓', warning: '!', problem: '✗' } as const;
const COLOURS = { ok: 'green', warning: 'yellow', problem: 'red' } as const;

/** `wa-replica doctor`: looks at everything that replication needs, and says what to do. Changes nothing. */
export function doctorCommand(terminal: Terminal): Command {
  return new Command('doctor')
    .description('checks settings, keys, pairing, database, privileges, schema, pooler and clocks')
    .action(async () => {
      const examined = examineSettings(terminal.env, { database: true, upstream: true });
      const options = { needsUpstream: true, settings: examined.settings };
      await withReplica(terminal, options, (replica) => examine(terminal, replica, examined));
    });
}

async function examine(terminal: Terminal, replica: Replica, examined: Examined): Promise<void> {
  const { stdout, signal } = terminal;
  const { settings, upstream, control, directory } = replica;
  const schema = settings.WA_REPLICA_SCHEMA;
  const colour = showsColours(stdout);
  let problems = 0;
  const tell = (findings: readonly Finding[]) => {
    for (const finding of findings) {
      stdout.write(line(finding, colour));
      if (finding.level === 'problem') problems++;
    }
  };
  /** Whether settings of these names are as they should be: what is wrong would lead elsewhere. */
  const sound = (names: RegExp) => !examined.problems.some((one) => names.test(one));
  tell(ofSettings(examined));
  const found = sound(/^(DATABASE_URL|PG|WA_REPLICA_SCHEMA)/)
    ? await databaseFindings(replica, sound(/^LISTEN_/))
    : undefined;
  tell(found ?? [notLookedAt('database')]);
  if (found?.every(({ level }) => level !== 'problem') === true) {
    if (sound(/^SEARCH/)) tell(await checkSearch(control, schema, settings.SEARCH));
    if (sound(/^ERASURE_KEY/)) tell(await checkErasure(control, forgettingOf(settings).key));
  }
  const country = settings.CRM_DEFAULT_COUNTRY;
  if (found !== undefined && sound(/^CRM_/)) tell(await checkCrm({ contacts: contactsOf(replica), country }));
  const given = givenConnections(settings);
  const baseUrl = settings.WHATSAPP_USE_BASE_URL;
  tell(
    sound(/^WHATSAPP_USE_/)
      ? await checkUpstream({ upstream, keys: directory.keys, given, baseUrl }, signal)
      : [notLookedAt('upstream')],
  );
  if (found !== undefined && sound(/^MEDIA_/)) tell(await mediaFindings(replica));
  if (problems > 0)
    throw new CommandFailed(`${plural(problems, 'problem')} found`, examined.problems.length > 0 ? 2 : 1);
}

function ofSettings({ problems, warnings }: Examined): Finding[] {
  const wrong = problems.map((one): Finding => ({ level: 'problem', message: `settings: ${one}` }));
  const odd = warnings.map((one): Finding => ({ level: 'warning', message: `settings: ${one}` }));
  return [...(wrong.length === 0 ? [ok('settings: complete and well-formed')] : wrong), ...odd];
}

async function databaseFindings(replica: Replica, listens: boolean): Promise<Finding[]> {
  const { settings, databaseUrl, control } = replica;
  const own = settings.LISTEN_DATABASE_URL;
  return await checkDatabase({
    db: control,
    schema: settings.WA_REPLICA_SCHEMA,
    listen: listens ? { url: own ?? databaseUrl, own: own !== undefined } : undefined,
    changesRetention: settings.CHANGES_RETENTION,
  });
}

async function mediaFindings(replica: Replica): Promise<Finding[]> {
  const store = await openStore(replica);
  if (store === undefined) return [];
  try {
    const owner = await ownerOf(replica.control, replica.settings.WA_REPLICA_SCHEMA).catch(() => undefined);
    return await checkMedia(store, owner);
  } finally {
    store.close();
  }
}

function line({ level, message, remedy }: Finding, colour: boolean): string {
  const sign = colour ? styleText(COLOURS[level], SIGNS[level], { validateStream: false }) : SIGNS[level];
  return `${sign} ${message}\n${remedy === undefined ? '' : `    ${remedy}\n`}`;
}
