import { Option } from 'commander';

/** `--connection ID`, as often as one likes; undefined for all connections. */
export function connectionOption(): Option {
  return new Option('--connection <id>', 'only this one; may be given again').argParser(
    (id: string, before: readonly string[] = []) => [...before, id],
  );
}
