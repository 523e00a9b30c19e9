/** What a replica must hold: every record of a connection as the upstream would serve it now. */
import type { Kind } from '../model.ts';
import type { Connection } from './connection.ts';
import type { RawRecord } from './records.ts';
import { contactText, conversationText, messageText, rawText } from './wire.ts';

export interface TruthOptions {
  /** Only what a first sync would bring now: without messages that have left the 30-day window. Default false. */
  readonly servedOnly?: boolean;
  /** Raw records (`injectRaw`) too, as they stand. Default false. */
  readonly raw?: boolean;
}

/** One record. `seq` is its latest, for contacts too, though theirs is not on the wire. */
export class TruthRecord {
  readonly kind: Kind;
  /** Empty for a raw record. */
  readonly id: string;
  readonly seq: bigint;
  /** The record exactly as a page holds it. */
  readonly json: string;

  constructor(kind: Kind, id: string, seq: bigint, json: string) {
    this.kind = kind;
    this.id = id;
    this.seq = seq;
    this.json = json;
  }

  /** The record parsed; integers that a number cannot hold exactly, and every `seq`, are bigints. */
  get record(): Record<string, unknown> {
    return parseExact(this.json) as Record<string, unknown>;
  }
}

/** Iterates over the live state: make no changes meanwhile. */
export function* truth(connection: Connection, options: TruthOptions = {}): Generator<TruthRecord> {
  const { log } = connection;
  for (const person of connection.people) {
    yield new TruthRecord('contact', person.id, log.seqOf(person), contactText(person));
  }
  for (const conversation of connection.conversations) {
    const seq = log.seqOf(conversation);
    yield new TruthRecord('conversation', conversation.id, seq, conversationText(conversation, seq));
  }
  for (const message of connection.messages) {
    if (options.servedOnly && !connection.served(message)) continue;
    const seq = log.seqOf(message);
    const json = messageText(message, seq, connection);
    yield new TruthRecord('message', connection.messageId(message.index), seq, json);
  }
  if (options.raw) for (const record of connection.raws) yield rawRecord(record, log.seqOf(record));
}

function rawRecord(record: RawRecord, seq: bigint): TruthRecord {
  return new TruthRecord(record.kind, '', seq, String(rawText(record.text, seq)));
}

/** `JSON.parse` that loses no integer: those beyond 2^53 come as bigint, as do `seq` and `cursor` of any size. */
export function parseExact(text: string): unknown {
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}

function exact(key: string, value: unknown, context: { source?: string }): unknown {
  if (typeof value !== 'number' || context.source === undefined) return value;
  const isInteger = /^-?\d+$/.test(context.source);
  if (!isInteger) return value;
  return key === 'seq' || key === 'cursor' || !Number.isSafeInteger(value) ? BigInt(context.source) : value;
}
