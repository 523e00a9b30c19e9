import { accessSync, constants, readFileSync } from 'node:fs';
import { type Login, passwordIn } from '../lib/passfile.ts';
import type { Environment } from './load.ts';
import { Refused } from './values.ts';

/** Those of libpq that pg honours; it would read any other as verify-full. */
const SSL_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'];

/** Parameters that name a file. */
const FILES = ['passfile', 'sslrootcert', 'sslcert', 'sslkey'];

/**
 * A Postgres URL as libpq reads it, turned into one that pg reads alike. A `passfile` is looked up here, for pg knows
 * none.
 */
export function postgresUrl() {
  return (text: string) => {
    const url = parse(text);
    if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
      throw new Refused(
        'wants a URL such as postgres://user:password@host:5432/database; in a password / is %2F, @ is %40, # is %23, % is %25',
      );
    }
    for (const name of FILES) {
      const file = url.searchParams.get(name);
      const obstacle = file === null ? undefined : obstacleTo(file);
      if (obstacle !== undefined)
        throw new Refused(`names a file by ${name} that cannot be read (${obstacle})`);
    }
    const passfile = url.searchParams.get('passfile');
    if (passfile !== null) {
      url.searchParams.delete('passfile');
      if (url.password === '' && !url.searchParams.has('password')) {
        const password = passwordIn(readFileSync(passfile, 'utf8'), loginOf(url));
        if (password === undefined) {
          throw new Refused('names a passfile that has no line for this host, port, database and user');
        }
        // Before the host there is no place for it in the URL of a socket.
        url.searchParams.set('password', password);
      }
    }
    const port = url.searchParams.get('port');
    if (port && !isPort(port)) throw new Refused(`wants a port ${PORTS}`);
    // pg takes every sslmode for verify-full unless told to read it as libpq does.
    const sslmode = url.searchParams.get('sslmode');
    if (sslmode !== null && !url.searchParams.has('uselibpqcompat')) {
      if (!SSL_MODES.includes(sslmode)) throw new Refused(`wants an sslmode of ${SSL_MODES.join(', ')}`);
      if (sslmode === 'verify-ca' && !url.searchParams.get('sslrootcert')) {
        throw new Refused('wants sslrootcert with sslmode=verify-ca');
      }
      url.searchParams.set('uselibpqcompat', 'true');
    }
    return url.href;
  };
}

const PORTS = 'from 1 to 65535';

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535;
}

/**
 * What is wrong with libpq's own variables, where pg would end with a stack, or take the connection for one without TLS.
 * @param urls as {@link postgresUrl} gives them, undefined for none: what all of them tell, the variables do not.
 */
export function libpqProblems(
  { PGPORT: port, PGSSLMODE: mode }: Environment,
  urls: readonly (string | undefined)[],
): string[] {
  const modes = [...SSL_MODES, 'no-verify'];
  const open = (name: string, told: (url: URL) => string = () => '') =>
    urls.some((text) => {
      const url = URL.parse(text ?? '');
      return !url || !(told(url) || url.searchParams.get(name));
    });
  return [
    ...(port && !isPort(port) && open('port', (url) => url.port)
      ? [`PGPORT wants a whole number ${PORTS}`]
      : []),
    ...(mode && !modes.includes(mode) && open('sslmode')
      ? [`PGSSLMODE wants one of ${modes.join(', ')}`]
      : []),
  ];
}

/** A user without a host, which is libpq's way to a socket (`postgres://user:password@/db?host=/cloudsql/…`) and no URL. */
const NO_HOST =
  /^(?<scheme>postgres(?:ql)?:\/\/)(?<user>[^/?#@:]*)(?::(?<password>[^/?#@]*))?@(?<rest>[/?].*)$/is;

function parse(text: string): URL | null {
  const parts = NO_HOST.exec(text.trim())?.groups;
  if (parts === undefined) return URL.parse(text);
  const { scheme, user, password, rest } = parts;
  const url = URL.parse(`${scheme}${rest}`);
  for (const [name, value] of Object.entries({ user, password })) {
    if (value && url?.searchParams.has(name) === false) url.searchParams.set(name, decoded(value));
  }
  return url;
}

function obstacleTo(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}

function loginOf(url: URL): Login {
  const user = url.searchParams.get('user') ?? decoded(url.username);
  // The brackets of an IPv6 address are the URL's.
  const host = decoded(url.hostname.replace(/^\[(.+)\]$/, '$1'));
  return {
    host: url.searchParams.get('host') ?? (host === '' ? 'localhost' : host),
    port: url.searchParams.get('port') ?? (url.port === '' ? '5432' : url.port),
    database: url.pathname.length > 1 ? decoded(url.pathname.slice(1)) : user,
    user,
  };
}

/** Percent signs that encode nothing are themselves, as for pg. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
