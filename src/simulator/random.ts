/**
 * Chance, repeatable: whatever the simulator "throws" comes from here, so a seed names a whole run.
 */

/** Hashes two integers to an unsigned 32-bit one. Derived facts (a name, a fraction of a second) cost no memory. */
export function mix(a: number, b = 0): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul((b + 0x165667b1) | 0, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  h ^= h >>> 12;
  h = Math.imul(h, 0x297a2d39);
  h ^= h >>> 15;
  return h >>> 0;
}

/** A 32-bit hash of a text, for seeding by a name. */
export function hashText(text: string): number {
  let h = 0;
  for (let i = 0; i < text.length; i++) h = mix(h, text.charCodeAt(i));
  return h;
}

/** A seeded stream of random numbers (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = mix(seed, 1);
  }

  /** An unsigned 32-bit integer. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    return this.bits() / 4294967296;
  }

  /** An integer in [0, below). */
  int(below: number): number {
    return Math.floor(this.next() * below);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(from.length)]!;
  }
}

const FACTOR = 0x9e3779b1;
const INVERSE = (() => {
  // Newton's iteration doubles the correct bits each round: 3 → 6 → … → 32.
  let inverse = FACTOR;
  for (let i = 0; i < 5; i++) inverse = Math.imul(inverse, 2 - Math.imul(FACTOR, inverse));
  return inverse;
})();

/**
 * A one-to-one scrambling of 32-bit integers, for ids that look random yet need no map: `unscramble` finds
 * the index again.
 */
export function scramble(index: number, salt: number): number {
  return (Math.imul(index, FACTOR) ^ salt) >>> 0;
}

export function unscramble(code: number, salt: number): number {
  return Math.imul(code ^ salt, INVERSE) >>> 0;
}

/** Four hexadecimal digits of every 16-bit number: ids are written by the million. */
const HEX = Array.from({ length: 65_536 }, (_, value) => value.toString(16).padStart(4, '0'));

/** Eight lower-case hexadecimal digits. */
export function hex8(value: number): string {
  return HEX[value >>> 16]! + HEX[value & 0xffff]!;
}
