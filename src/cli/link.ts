import { Command } from 'commander';
import type { LinkReport } from '../crm/linking.ts';
import { plural } from '../lib/plural.ts';
import { linkFromSettings } from './linking.ts';
import { onTables } from './session.ts';
import { CommandFailed, printable, type Terminal } from './terminal.ts';

interface Options {
  readonly dryRun?: true;
  readonly json?: true;
}

/** `wa-replica link`: the CRM's contacts by phone number. Needs the database alone. */
export function linkCommand(terminal: Terminal): Command {
  return new Command('link')
    .description("links the CRM's contacts (CRM_CONTACTS_QUERY) with people by phone number, now")
    .option('--dry-run', 'only says what would come of it')
    .option('--json', 'as a JSON object')
    .action(async ({ dryRun, json }: Options) => {
      await onTables(terminal, async (replica) => {
        const report = await linkFromSettings(replica, dryRun === true, terminal.signal);
        if (report === undefined) throw new CommandFailed('another process is linking now: try again');
        terminal.stdout.write(json ? `${JSON.stringify(report)}\n` : told(report, dryRun === true));
      });
    });
}

/** Contacts are named by their ids; numbers are not told. */
function told(report: LinkReport, dryRun: boolean): string {
  const { rows, links, contacts, added, removed, matched, ambiguous, shared, unreadable, nameless } = report;
  const lines = [
    ['rows', rows, 'that CRM_CONTACTS_QUERY gives'],
    ['linked', links, `numbers of ${plural(contacts, 'contact')} (${added} new, ${removed} gone)`],
    ['matched', matched, 'of these contacts are known on WhatsApp'],
    [
      'ambiguous',
      ambiguous,
      `numbers that several contacts have${listed(
        shared.map((ids) => ids.join(' = ')),
        ambiguous,
      )}`,
    ],
    [
      'unreadable',
      unreadable,
      `texts that are no number, or lack a country${listed(report.unreadableIds, unreadable)}`,
    ],
    ...(nameless > 0 ? [['without id', nameless, 'rows, which are left out'] as const] : []),
  ] as const;
  const width = Math.max(...lines.map(([, count]) => String(count).length));
  const table = lines.map(
    ([what, count, about]) => `${what.padEnd(11)} ${String(count).padStart(width)}  ${about}\n`,
  );
  return `${table.join('')}${dryRun ? 'a dry run: nothing was written\n' : ''}`;
}

/** The first of them, by contact. */
function listed(names: readonly string[], all: number): string {
  if (names.length === 0) return '';
  return `: ${names.map(printable).join(', ')}${names.length < all ? ', …' : ''}`;
}
