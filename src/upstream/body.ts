import type { Dispatcher } from 'undici';
import { ReplicaError } from '../errors/errors.ts';

type Body = Dispatcher.ResponseData['body'];

/** What becomes of a body. The place is for errors. */
export type Take<T> = (body: Body, where: string) => Promise<T>;

/** Takes all of it into memory, as long as it is admitted (R19): what is too large is not read to its end.
 * @param admits asked with the bytes read so far whenever more come. */
export function whole(admits: (bytes: number) => boolean): Take<Buffer> {
  return async (body, where) => {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      // Leaving the loop destroys the body.
      if (!admits(size)) throw new ReplicaError('oversize', { where, code: `${size} bytes or more` });
      chunks.push(chunk);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size);
  };
}

/** Bound on the answers that are no pages, in bytes. */
const SMALL_ANSWER = 16 * 1024 ** 2;
export const small = whole((bytes) => bytes <= SMALL_ANSWER);
