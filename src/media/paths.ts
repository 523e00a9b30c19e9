/** A content's place in any store: two levels of folders, so that none has too many files. */
export function pathOf(sha256: string, extension: string): string {
  return `${sha256.slice(0, 2)}/${sha256.slice(2, 4)}/${sha256}${extension}`;
}

/** Whether a path is one that {@link pathOf} makes: whatever else lies in a store is not ours to touch. */
export function isOurs(path: string): boolean {
  return /^([0-9a-f]{2})\/([0-9a-f]{2})\/\1\2[0-9a-f]{60}(\.[0-9a-z]{2,4})?$/.test(path);
}
