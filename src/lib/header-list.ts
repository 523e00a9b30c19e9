/* Comma-separated values that are sent as headers: API keys and ids of connections, in settings and in files. */

/** The values, without empty ones and doubles. */
export function splitList(text: string): string[] {
  return [...new Set(text.split(',').map((one) => one.trim()))].filter((one) => one !== '');
}

/** Whether a value can be sent: ASCII without blanks and line ends. */
export function isHeaderValue(value: string): boolean {
  return /^[\x21-\x7e]+$/.test(value);
}
