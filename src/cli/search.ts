import { Argument, Command } from 'commander';
import type { Replica } from '../replica/replica.ts';
import { indexStands, PARTS_INDEX, SEARCH_INDEX } from '../store/indexes.ts';
import { type FoundMessage, searchMessages } from '../store/search.ts';
import { refuseUnknown } from './connection-option.ts';
import { momentOf } from './moment.ts';
import { onTables } from './session.ts';
import { CommandFailed, printable, type Terminal } from './terminal.ts';
import { wholeNumber } from './whole-number.ts';

interface Options {
  readonly phone?: string;
  readonly person?: string;
  readonly crm?: string;
  readonly connection?: string;
  readonly since?: Date;
  readonly before?: Date;
  readonly limit: number;
  readonly parts?: true;
  readonly json?: true;
}

const LIMIT = 50;
const MOST = 10_000;

/** Characters of a body that a line shows, and as many of them before the word. */
const SHOWN = 160;
const BEFORE = 40;

/** `wa-replica search`: messages by their words. Needs the database alone. */
export function searchCommand(terminal: Terminal): Command {
  return new Command('search')
    .description('messages with these words, the newest first')
    .addArgument(
      new Argument('<words...>', 'all of them; "a phrase" in quotes, a or b, begin*, -without (after --)'),
    )
    .option('--parts', 'not whole words: what stands anywhere in them, taken as it is written')
    .option('--phone <number>', 'of this person: E.164, or as CRM_DEFAULT_COUNTRY writes it')
    .option('--person <id>', "of this person, by the upstream's id")
    .option('--crm <id>', 'of this contact of the CRM; see `link`')
    .option('--connection <id>', 'of this connection')
    .option('--since <time>', 'sent since: a duration such as 7d, or a date', momentOf)
    .option('--before <time>', 'sent before, likewise', momentOf)
    .option('--limit <n>', `at most so many, up to ${MOST}`, wholeNumber(1, MOST), LIMIT)
    .option('--json', 'a JSON object a line')
    .action(async (words: string[], options: Options) => {
      await onTables(terminal, async (replica) => {
        await search(terminal, replica, words.join(' '), options);
      });
    });
}

async function search(
  { stdout, stderr }: Terminal,
  replica: Replica,
  query: string,
  options: Options,
): Promise<void> {
  const { settings, maintenance: db } = replica;
  const schema = settings.WA_REPLICA_SCHEMA;
  const parts = options.parts === true;
  const sought = parts ? /[^\s"]/ : /[\p{L}\p{N}]/u;
  if (!sought.test(query)) throw new CommandFailed('there is no word to look for', 2);
  if (!(await indexStands(db, schema, parts ? PARTS_INDEX : SEARCH_INDEX))) {
    const off = parts ? settings.SEARCH !== 'parts' : settings.SEARCH === 'off';
    const why = off
      ? `SEARCH is ${parts ? 'not parts' : 'off'}`
      : 'the index is not built yet (`run` and `migrate` do it, or say why not)';
    stderr.write(`wa-replica: ${why}: every message is read, which takes long on many\n`);
  }
  const { person, crm, connection, since, before, limit } = options;
  const phone =
    options.phone === undefined ? undefined : await phoneOf(options.phone, settings.CRM_DEFAULT_COUNTRY);
  const wanted = { query, phone, person, crmId: crm, connection, since, before, max: limit, parts };
  const found = await searchMessages(db, schema, wanted);
  const words = wordsIn(query, parts);
  for (const message of found) {
    stdout.write(`${options.json ? JSON.stringify(message) : line(message, words)}\n`);
  }
  if (found.length === 0) await refuseUnknown(db, connection);
  if (found.length === 0) stderr.write('nothing found\n');
  if (found.length === limit) stderr.write(`the newest ${limit}: --limit or --before for more\n`);
}

async function phoneOf(text: string, country: string | undefined): Promise<string> {
  const { phonesIn } = await import('../crm/phones.ts');
  const [phone, ...others] = phonesIn(text, country);
  if (phone === undefined || others.length > 0) {
    throw new CommandFailed('--phone wants one number such as +4915112345678, or set CRM_DEFAULT_COUNTRY', 2);
  }
  return phone;
}

/** What a body is shown around. Without `--parts` a query has operators, which stand in no body for themselves. */
function wordsIn(query: string, parts: boolean): string[] {
  const lower = query.toLowerCase();
  const sought = parts ? lower : lower.replace(/(?<=^|\s)(?:-\S+|or(?=\s))/g, ' ');
  return sought.match(/[\p{L}\p{N}]+/gu) ?? [];
}

function line(message: FoundMessage, words: readonly string[]): string {
  const { sent_at, connection_id, chat_kind, chat_title, is_from_me, sender_name, sender_e164, body } =
    message;
  const at = sent_at === null ? ' '.repeat(16) : sent_at.toISOString().slice(0, 16).replace('T', ' ');
  const who = sender_name ?? sender_e164 ?? 'somebody';
  const chat = chat_title ?? 'somewhere';
  const from =
    chat_kind === 'direct' ? (is_from_me ? `to ${chat}` : chat) : `${is_from_me ? 'we' : who} in ${chat}`;
  const deleted = message.deleted_at === null ? '' : ' (deleted)';
  return printable(`${at}  ${connection_id}  ${from}${deleted}: ${excerpt(body ?? '', words)}`);
}

/** The part of a body that is around the first of the words. */
function excerpt(body: string, words: readonly string[]): string {
  const text = body.replace(/\s+/g, ' ').trim();
  const lower = text.toLowerCase();
  const places = words.map((word) => lower.indexOf(word)).filter((place) => place >= 0);
  const from = Math.max(0, Math.min(...places, text.length) - BEFORE);
  const begin = text.length <= SHOWN || places.length === 0 ? 0 : from;
  const end = begin + SHOWN;
  // No half of an emoji, which would show as what cannot be printed.
  const shown = text.slice(begin, end).replace(/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/g, '');
  return `${begin > 0 ? '…' : ''}${shown}${end < text.length ? '…' : ''}`;
}
