import { ReplicaError } from '../errors/errors.ts';
import type { VerifyOrder } from './context.ts';

/** @throws ReplicaError `lease_lost` once the connection is another worker's. */
export function requireLease({ mayGoOn }: VerifyOrder): void {
  if (mayGoOn?.() === false) throw leaseLost();
}

export function leaseLost(): ReplicaError {
  return new ReplicaError('lease_lost', { where: "the connection is another worker's now" });
}
