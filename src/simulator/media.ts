/** The stock of media files that messages refer to: bytes that start like their type, and the facts about them. */
import { createHash } from 'node:crypto';
import { mix } from './random.ts';
import type { ContentType } from './records.ts';

export interface MediaFile {
  readonly mimeType: string;
  readonly fileName: string | null;
  readonly bytes: Buffer;
  /** SHA-256 of the bytes in base64. */
  readonly sha256: string;
  /** Bytes that a message claims; in a few files far beyond 2^53, and then nothing can be downloaded. */
  readonly size: bigint;
  /** Whether the upstream still serves it. */
  readonly available: boolean;
}

/** How many different files there are of each type; a message's `media` is 1 … this. */
export const VARIANTS = 48;

const TYPES: Record<ContentType, readonly [mime: string, magic: string, extension: string]> = {
  text: ['text/plain', '', 'txt'],
  image: ['image/jpeg', 'ffd8ffe000104a464946', 'jpg'],
  audio: ['audio/ogg; codecs=opus', '4f67675300020000', 'ogg'],
  video: ['video/mp4', '000000186674797069736f6d', 'mp4'],
  document: ['application/pdf', '255044462d312e370a', 'pdf'],
};

const FILE_NAMES = [
  'invoice-2026-118',
  'Angebot für Müller',
  '契約書',
  'فاتورة ٤٤٧١',
  'relatório final (2)',
  'a"b\\c',
];

const files = new Map<string, MediaFile>();

/** The file of a type with this number, made once and shared by all messages that carry it. */
export function mediaFile(type: ContentType, variant: number): MediaFile {
  const name = `${type}/${variant}`;
  let file = files.get(name);
  if (!file) {
    file = make(type, variant);
    files.set(name, file);
  }
  return file;
}

function make(type: ContentType, variant: number): MediaFile {
  const [mimeType, magic, extension] = TYPES[type];
  const seed = mix(variant, type.length);
  const bytes = Buffer.alloc(200 + (seed % 6000));
  for (let i = 0; i < bytes.length; i += 4) {
    const bits = mix(seed, i);
    for (let j = 0; j < 4 && i + j < bytes.length; j++) bytes[i + j] = (bits >>> (8 * j)) & 255;
  }
  bytes.write(magic, 'hex');
  const absurd = variant % 16 === 5;
  return {
    mimeType,
    fileName: type === 'document' ? `${FILE_NAMES[seed % FILE_NAMES.length]!}.${extension}` : null,
    bytes,
    sha256: createHash('sha256').update(bytes).digest('base64'),
    size: absurd ? 9_007_199_254_740_993n + BigInt(variant) * 2n : BigInt(bytes.length),
    available: !absurd && variant % 16 !== 9,
  };
}
