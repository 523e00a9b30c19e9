import { InvalidArgumentError } from 'commander';

/** Reads an option's whole number between two bounds.
 * @throws InvalidArgumentError from what it returns. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`a whole number from ${least} to ${most} is wanted`);
  };
}
