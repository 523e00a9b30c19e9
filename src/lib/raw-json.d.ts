/* In Node since 22; the type library of this TypeScript does not have it yet. */

interface JSON {
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
}
