import { styleText } from 'node:util';
import { Command } from 'commander';
import { plural } from '../lib/plural.ts';
import { ownerOf } from '../media/owner.ts';
import { checkCrm, checkSearch } from '../ops/doctor/crm.ts';
import { checkDatabase } from '../ops/doctor/database.ts';
import { checkErasure } from '../ops/doctor/erasure.ts';
import type { Finding } from '../ops/doctor/finding.ts';
import { checkMedia } from '../ops/doctor/media.ts';
import { checkUpstream } from '../ops/doctor/upstream.ts';
import { forgettingOf, givenConnections, type Replica } from '../replica.ts';
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
      await withReplica(terminal, { needsUpstream: true }, async (replica) => {
        const { settings, databaseUrl, upstream, control, directory } = replica;
        const colour = terminal.stdout.isTTY === true;
        const tell = (finding: Finding) => terminal.stdout.write(line(finding, colour));
        tell({ level: 'ok', message: 'settings: complete and well-formed' });
        const listenUrl = settings.LISTEN_DATABASE_URL ?? databaseUrl;
        const findings = await checkDatabase({
          db: control,
          schema: settings.WA_REPLICA_SCHEMA,
          listenUrl,
          hasListenUrl: settings.LISTEN_DATABASE_URL !== undefined,
          changesRetention: settings.CHANGES_RETENTION,
        });
        if (findings.every(({ level }) => level !== 'problem')) {
          findings.push(...(await checkSearch(control, settings.WA_REPLICA_SCHEMA, settings.SEARCH)));
          findings.push(...(await checkErasure(control, forgettingOf(settings).key)));
        }
        const country = settings.CRM_DEFAULT_COUNTRY;
        findings.push(...(await checkCrm({ contacts: contactsOf(replica), country })));
        for (const finding of findings) tell(finding);
        const given = givenConnections(settings);
        const baseUrl = settings.WHATSAPP_USE_BASE_URL;
        const ofUpstream = await checkUpstream(
          { upstream, keys: directory.keys, given, baseUrl },
          terminal.signal,
        );
        for (const finding of ofUpstream) tell(finding);
        const ofMedia = await mediaFindings(replica);
        for (const finding of ofMedia) tell(finding);
        const all = [...findings, ...ofUpstream, ...ofMedia];
        const problems = all.filter(({ level }) => level === 'problem').length;
        if (problems > 0) throw new CommandFailed(`${plural(problems, 'problem')} found`);
      });
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
