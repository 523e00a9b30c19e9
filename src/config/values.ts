import { fileURLToPath } from 'node:url';
import { validate } from 'node-cron';
import { isHeaderValue, splitList } from '../lib/header-list.ts';
import type { MediaStoreUrl } from '../model.ts';

/* The forms that settings are written in. Each message says what is wanted, and never repeats the value: it may
 * be a secret in the wrong variable. */

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Reads a setting's text. @throws Refused where it is none of this form. */
export type Form<T> = (text: string) => T;

/** Says what is wanted instead of a text. */
export class Refused extends Error {
  override name = 'Refused';
}

/** In milliseconds. */
export const DAY = 86_400_000;

/**
 * A duration such as `500ms 15s 5m 1h 30d`, in whole milliseconds: Node's time-outs refuse a fraction.
 * @param most where it ends in a timer or a setting of Postgres, which hold 2^31-1 ms (about 24 days).
 */
export function duration(least = 0, most = 36_500 * DAY) {
  return (text: string) => {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
    if (match === null) throw new Refused('wants a duration such as 500ms, 15s, 5m, 1h or 30d');
    const ms = Math.round(Number(match[1]) * UNITS[match[2]!]!);
    if (ms < least) throw new Refused(`wants at least ${written(least)}`);
    if (ms > most) throw new Refused(`wants at most ${written(most)}`);
    return ms;
  };
}

/** A bound as a setting would have it, in its greatest unit. */
function written(ms: number): string {
  const [unit, size] = Object.entries(UNITS).findLast(([, one]) => ms % one === 0)!;
  return `${ms / size}${unit}`;
}

/** A whole number between two bounds. */
export function integer(least: number, most: number) {
  return (text: string) => {
    const value = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most))
      throw new Refused(`wants a whole number from ${least} to ${most}`);
    return value;
  };
}

/** What an answer in memory may have, in bytes: it must fit into one string of V8 (about 512 Mi characters), at four
 * times the bound (R19). */
const MOST_IN_MEMORY = 128 * 1024 ** 2;

/** A size such as `512KiB 64MiB 1GiB` or a number of bytes, in bytes. */
export function bytes(least: number, most = MOST_IN_MEMORY) {
  return (text: string) => {
    const match = /^(\d+)(KiB|MiB|GiB)?$/.exec(text.trim());
    const power = ['', 'KiB', 'MiB', 'GiB'].indexOf(match?.[2] ?? '');
    const value = match === null ? Number.NaN : Number(match[1]) * 1024 ** power;
    if (!(value >= least && value <= most))
      throw new Refused(`wants a size from ${least} bytes to ${most / 1024 ** 2}MiB, such as 64MiB`);
    return value;
  };
}

export function choice<const T extends string>(...values: T[]) {
  return (text: string) => {
    const value = values.find((one) => one === text.trim().toLowerCase());
    if (value === undefined) throw new Refused(`wants one of ${values.join(', ')}`);
    return value;
  };
}

export function flag(yes: string, no: string) {
  const either = choice(yes, no);
  return (text: string) => either(text) === yes;
}

/** Comma-separated values, without doubles. An empty one is a variable that was not set where the list was made. */
export function list() {
  return (text: string) => {
    if (text.split(',').some((one) => one.trim() === ''))
      throw new Refused('wants values with a comma between each two: one is empty');
    return splitList(text);
  };
}

/** As {@link list}, of values that are sent as headers. */
export function headerList() {
  const values = list();
  return (text: string) => {
    const all = values(text);
    if (all.every(isHeaderValue)) return all;
    throw new Refused('wants values of ASCII without blanks or line ends, with commas between them');
  };
}

/** `auto` alone, or a list of ids. */
export function autoOrIds() {
  const ids = headerList();
  return (text: string) => {
    const all = ids(text);
    if (!all.some((one) => one.toLowerCase() === 'auto')) return all;
    if (all.length > 1) throw new Refused('is auto alone, or ids: not both');
    return ['auto'];
  };
}

/** The name of a schema: one that needs no quotes, and none of Postgres' own. */
export function schemaName() {
  return (name: string) => {
    if (!/^[a-z_][a-z0-9_]{0,62}$/.test(name))
      throw new Refused('wants a name of small letters, digits and _ that begins with a letter');
    if (name.startsWith('pg_') || name === 'information_schema')
      throw new Refused("is one of Postgres' own schemas");
    return name;
  };
}

/** `off`, or what the form takes. */
export function offOr<T>(form: Form<T>) {
  return (text: string): T | 'off' => {
    if (text.trim().toLowerCase() === 'off') return 'off';
    try {
      return form(text);
    } catch (error) {
      throw error instanceof Refused ? new Refused(`${error.message}, or off`) : error;
    }
  };
}

export function text() {
  return (value: string) => value.trim();
}

/** A key that nobody guesses. @param least characters. */
export function key(least: number) {
  return (value: string) => {
    const text = value.trim();
    if (text.length < least) {
      const message = `wants at least ${least} characters that nobody guesses: openssl rand -hex 32`;
      throw new Refused(message);
    }
    return text;
  };
}

export function httpUrl() {
  return (text: string) => {
    const url = URL.parse(text);
    if (url === null || !/^https?:$/.test(url.protocol) || url.username + url.password + url.search !== '')
      throw new Refused('wants a URL such as https://host.example, without user or query');
    return url;
  };
}

/** Any URL over http or https; it may hold a token. */
export function webUrl() {
  return (text: string) => {
    const url = URL.parse(text);
    if (url === null || !/^https?:$/.test(url.protocol) || url.username + url.password !== '')
      throw new Refused('wants a URL such as https://alerts.example.com/hook, without user');
    return url;
  };
}

/** `file:///path` or `s3://bucket/prefix`. */
export function mediaStore() {
  return (text: string): MediaStoreUrl => {
    try {
      // A relative one would be read as one from the root.
      const store = /^[a-z0-9]+:\/\//i.test(text.trim()) ? storeOf(URL.parse(text.trim())) : undefined;
      if (store !== undefined) return store;
    } catch {
      // Percent signs that encode nothing.
    }
    throw new Refused('wants file:///path or s3://bucket/prefix, without user or query');
  };
}

function storeOf(url: URL | null): MediaStoreUrl | undefined {
  if (url === null || url.username + url.password + url.search + url.hash !== '') return undefined;
  if (url.protocol === 'file:' && url.host === '' && url.pathname.length > 1) {
    return { kind: 'file', folder: fileURLToPath(url) };
  }
  const bucket = url.host;
  if (url.protocol !== 's3:' || !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) return undefined;
  const prefix = decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, '');
  return /^[A-Za-z0-9!_.*'()/-]{0,512}$/.test(prefix) ? { kind: 's3', bucket, prefix } : undefined;
}

/** When something is done, in node-cron's form; times are UTC. */
export function cron() {
  return (text: string) => {
    if (!validate(text.trim()))
      throw new Refused('wants minute, hour, day, month and weekday, such as 17 3 * * *');
    return text.trim();
  };
}

/** A query to be read from: one statement, without the semicolon that one is used to. */
export function query() {
  return (text: string) => {
    const value = text.trim().replace(/[;\s]+$/, '');
    if (!/^[\s(]*(select|with|values|table)\b/i.test(value))
      throw new Refused('wants a query such as select id, phone from contacts');
    return value;
  };
}

/** Those whose numbers libphonenumber knows, by ISO 3166; written out, since that is loaded only where it is used. */
export const COUNTRIES: ReadonlySet<string> = new Set(
  `AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC
    CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB
    GD GE GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
    KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV
    MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PR PS PT PW PY QA RE RO RS RU RW SA SB
    SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG US
    UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW`.split(/\s+/),
);

/** A country by its two letters of ISO 3166. */
export function country() {
  return (text: string) => {
    const value = text.trim().toUpperCase();
    if (!COUNTRIES.has(value))
      throw new Refused('wants the two letters of a country by ISO 3166, such as DE, GB or US');
    return value;
  };
}

/** Whether a URL's host is this machine itself. */
export function isLoopback(url: URL): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
}
