/*
 * A file's name is its content and, so that a web server and a person know what it is, an extension by its type: from this
 * list alone. Nothing of a name comes from the upstream, which passes on what a stranger has typed.
 */

const EXTENSIONS: Readonly<Record<string, string>> = {
  'application/gzip': '.gz',
  'application/json': '.json',
  'application/msword': '.doc',
  'application/pdf': '.pdf',
  'application/rtf': '.rtf',
  'application/vnd.ms-excel': '.xls',
  'application/vnd.ms-powerpoint': '.ppt',
  'application/vnd.oasis.opendocument.spreadsheet': '.ods',
  'application/vnd.oasis.opendocument.text': '.odt',
  'application/vnd.openxmlformats-officedocument.presentationml.presentation': '.pptx',
  'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet': '.xlsx',
  'application/vnd.openxmlformats-officedocument.wordprocessingml.document': '.docx',
  'application/x-7z-compressed': '.7z',
  'application/zip': '.zip',
  'audio/aac': '.aac',
  'audio/amr': '.amr',
  'audio/mp4': '.m4a',
  'audio/mpeg': '.mp3',
  'audio/ogg': '.ogg',
  'audio/wav': '.wav',
  'image/gif': '.gif',
  'image/heic': '.heic',
  'image/jpeg': '.jpg',
  'image/png': '.png',
  'image/webp': '.webp',
  'text/calendar': '.ics',
  'text/csv': '.csv',
  'text/plain': '.txt',
  'text/vcard': '.vcf',
  'video/3gpp': '.3gp',
  'video/mp4': '.mp4',
  'video/quicktime': '.mov',
  'video/webm': '.webm',
};

/** The extension of a type, with its dot; empty for one that is not in the list. */
export function extensionOf(mimeType: string | null): string {
  return (mimeType !== null && Object.hasOwn(EXTENSIONS, mimeType) && EXTENSIONS[mimeType]) || '';
}

/** A type as it is kept: small letters, no parameters. Null where it is none. */
export function cleanMimeType(text: string | null | undefined): string | null {
  const type = (text ?? '').split(';', 1)[0]!.trim().toLowerCase();
  return /^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/.test(type) ? type : null;
}

/** What a server says that knows nothing of the file. */
const UNKNOWN = ['application/octet-stream', 'binary/octet-stream'];

/** The type of a file: what came with it, and where that says nothing, what the message said. */
export function mimeTypeOf(served: string | undefined, told: string | null): string | null {
  const type = cleanMimeType(served);
  return type === null || UNKNOWN.includes(type) ? (cleanMimeType(told) ?? type) : type;
}

/** Whether an answer is a page of something in between (a proxy, a login), and not the file that was asked for. */
export function isStrayPage(
  served: string | undefined,
  told: string | null,
  contentType: string | null,
): boolean {
  if (!isHtml(cleanMimeType(served))) return false;
  const type = cleanMimeType(told);
  return type === null ? contentType !== 'document' : !isHtml(type);
}

function isHtml(type: string | null): boolean {
  return type === 'text/html' || type === 'application/xhtml+xml';
}
