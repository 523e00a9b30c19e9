/** What a password is for, as libpq names it. */
export interface Login {
  /** A name, an address, or the folder of a socket. */
  readonly host: string;
  readonly port: number | string;
  readonly database: string;
  readonly user: string;
}

/** Where libpq looks for a socket unless told: built as it comes, and as Debian builds it. */
const SOCKET_FOLDERS = ['/tmp', '/var/run/postgresql'];

/**
 * The password in the text of a libpq password file: of the first line `host:port:database:user:password` that has one,
 * and whose other fields are the login's, or `*`. A backslash takes the meaning from what follows it. Undefined where
 * there is no such line.
 */
export function passwordIn(text: string, login: Login): string | undefined {
  const hosts = SOCKET_FOLDERS.includes(login.host) ? [login.host, 'localhost'] : [login.host];
  const wanted = [hosts, [String(login.port)], [login.database], [login.user]];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('#')) continue;
    const fields = [...line.matchAll(/((?:\\.|[^:])*)(?::|$)/g)].map((match) => match[1]!);
    const password = plain(fields[4] ?? '');
    if (password === '') continue;
    if (wanted.every((values, i) => fields[i] === '*' || values.includes(plain(fields[i]!)))) return password;
  }
  return undefined;
}

function plain(field: string): string {
  return field.replace(/\\(.)/g, '$1');
}
