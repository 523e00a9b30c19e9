/**
 * Records of every odd kind at once, in pages as odd: what is good is stored as it was meant, what is bad is put aside
 * as it came, and nothing else happens. The tables are compared by Postgres, with what the generator meant.
 */
import { CompiledQuery } from 'kysely';
import { expect, inject, test } from 'vitest';
import { CONTACT, ENTITIES, type Entity, type FieldType } from '../../src/entities.ts';
import { mix, Random } from '../../src/simulator/random.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';
import { type Odd, OddJson, plain } from './odd-json.ts';

const PAGES = 25;

const database = useTestDatabase({ migrated: true });
const query = async <T>(sql: string, ...values: unknown[]) =>
  (await database.db.executeQuery<T>(CompiledQuery.raw(sql, values))).rows;

interface Came {
  readonly entity: Entity;
  readonly bytes: string;
  /** Undefined where it has to be put aside. */
  readonly good?: { readonly id: string; readonly seq: bigint | undefined; readonly row: string };
}

const TIMES: readonly (readonly [came: string, stored: string | null])[] = [
  ['2026-11-01T10:00:00Z', '2026-11-01T10:00:00+00:00'],
  ['2026-11-01t10:00:00.1234569+05:30', '2026-11-01T04:30:00.123456+00:00'],
  ['0001-01-01T00:00:00Z', null],
  ['', null],
];
const SEQS: readonly (readonly [came: string, seq: bigint | undefined])[] = [
  ...[1n, 2n, 3n, 9007199254740992n, 9007199254740993n].map((seq) => [String(seq), seq] as const),
  ['-0', 0n],
  ['"0009"', 9n],
  ['9223372036854775807', 9223372036854775807n],
  ['null', undefined],
];
const BAD_SEQS = ['-1', '1.0', '1e3', '""', '9223372036854775808', 'true', '[]'];
/** What is none of a type. */
const WRONG: Readonly<Record<FieldType, readonly string[]>> = {
  id: ['5', '1.5', 'true', '[]', '{}', `"${'x'.repeat(1025)}"`],
  text: ['5', '12345678901234567890', 'false', '{}'],
  boolean: ['"true"', '1', '[]'],
  time: ['5', '"now"', '"2026-02-30T00:00:00Z"', '"2026-01-01"'],
  object: ['5', '"{}"', '[]', 'true'],
};
const NO_RECORDS = ['null', '5', '"x"', '[]', '[{}]', 'true'];

/** Draws records. */
class Upstream extends OddJson {
  #bad = 0;

  record(entity: Entity): Came {
    const { random } = this;
    if (random.chance(0.02)) return { entity, bytes: random.pick(NO_RECORDS) };
    const id = this.id(entity.kind);
    const members: [Odd, Odd][] = [[plain(entity.key), id]];
    const row = new Map([[entity.key as string, id.means]]);
    let bad = false;
    let seq: bigint | undefined;
    if (entity.version === 'seq' && random.chance(0.9)) {
      bad ||= random.chance(0.02);
      const [bytes, meant] = bad ? [random.pick(BAD_SEQS), undefined] : random.pick(SEQS);
      members.push([plain('seq'), { bytes, means: bytes }]);
      seq = meant;
    }
    for (const [name, type] of Object.entries(entity.fields)) {
      // Such as have it are never partial.
      const value = name === 'conversation_id' ? this.id('conversation') : this.field(type);
      row.set(name, value?.means ?? 'null');
      if (value === undefined) continue;
      if (random.chance(0.03)) members.push([plain(name), this.any()]);
      members.push([plain(name), value]);
      if (value.refused) bad = true;
    }
    const others = Array.from({ length: random.int(3) }, () => this.member());
    const extra = new Map(others.map(([key, value]) => [key.text, value]));
    if ([...extra.values()].some(({ refused }) => refused)) bad = true;
    const unknown = [...extra].map(([key, { means }]) => `${JSON.stringify(key)}:${means}`);
    row.set('extra', unknown.length === 0 ? 'null' : `{${unknown.join(',')}}`);
    // A bad one has an id of its own: of two of an id and version the last one counts, and Postgres sees no other.
    if (bad) members[0] = [plain(entity.key), plain(`bad ${++this.#bad}`)];
    const bytes = this.write([...members, ...others]);
    if (bad) return { entity, bytes };
    const fields = [...row].map(([name, means]) => `"${name}":${means}`).join(',');
    return { entity, bytes, good: { id: id.text, seq, row: fields } };
  }

  /** Undefined where it does not come; `refused` where it is bad. */
  field(type: FieldType): Odd | undefined {
    const { random } = this;
    const absent = random.int(5);
    if (absent === 0) return undefined;
    if (absent === 1) return { bytes: 'null', means: 'null' };
    if (random.chance(0.01)) return { bytes: random.pick(WRONG[type]), means: 'null', refused: true };
    switch (type) {
      case 'id':
        return this.jid();
      case 'text':
        return this.text();
      case 'boolean':
        return random.pick(['true', 'false'].map((bytes) => ({ bytes, means: bytes })));
      case 'time': {
        const [came, stored] = random.pick(TIMES);
        return { ...plain(came), means: JSON.stringify(stored) };
      }
      case 'object':
        return this.object();
    }
  }

  page(records: readonly Came[], cursor: bigint): Buffer {
    const { random } = this;
    const lists = ENTITIES.map((entity) => {
      const own = records.filter((one) => one.entity === entity).map(({ bytes }) => bytes + this.space());
      const list = `"${entity.array}"${this.space()}:${this.space()}[${own.join(',')}]`;
      return random.chance(0.1) ? `"${entity.array}":[{"twice":1}],${list}` : list;
    });
    const end = random.pick([`"cursor":${cursor}`, `"cursor":"${cursor}","has_more":null`]);
    const mark = random.chance(0.2) ? '\xef\xbb\xbf' : '';
    const unknown = `"unknown":${this.any().bytes}`;
    return Buffer.from(`${mark}{${[...lists, unknown, end].join(`${this.space()},`)}}`, 'latin1');
  }
}

/** What has to be stored: by table and id, the newest version, and among equals the last that came (R2, R3). */
class Meant {
  readonly #rows = new Map<Entity, Map<string, { version: bigint; row: string }>>(
    ENTITIES.map((entity) => [entity, new Map()]),
  );
  /** How often each bad record came. */
  readonly bad = new Map<string, number>();

  take(records: readonly Came[], cursor: bigint): void {
    for (const { entity, bytes, good } of records) {
      if (good === undefined) {
        const letter = `${entity.kind} ${bytes}`;
        this.bad.set(letter, (this.bad.get(letter) ?? 0) + 1);
        continue;
      }
      const rows = this.#rows.get(entity)!;
      const version = entity === CONTACT ? cursor : (good.seq ?? cursor);
      const stored = rows.get(good.id);
      if (stored === undefined || version >= stored.version) rows.set(good.id, { version, row: good.row });
    }
  }

  /** As JSON, without the version of contacts: one that comes again as it was keeps its own. */
  rows(entity: Entity): string {
    const all = [...this.#rows.get(entity)!.values()];
    return `[${all.map(({ version, row }) => `{${row}${entity === CONTACT ? '' : `,"seq":${version}`}}`).join(',')}]`;
  }
}

/** Rows that are not as meant, or not there, or too many. */
async function differences(entity: Entity, meant: string): Promise<unknown[]> {
  const beside = ['connection_id', 'numbering', 'first_synced_at', 'synced_at', 'erased_at', 'version'];
  return await query(
    `select coalesce(m.row, t.row)->>'${entity.key}' as id, m.row::text as meant, t.row::text as stored
      from jsonb_array_elements($1::jsonb) as m (row)
      full join (select to_jsonb(t) - $2::text[] as row from whatsapp.${entity.table} t) t
        on t.row->>'${entity.key}' = m.row->>'${entity.key}'
      where m.row is distinct from t.row limit 3`,
    meant,
    beside,
  );
}

async function putAside(): Promise<Map<string, number>> {
  const rows = await query<{ kind: string; bytes: Buffer; times: number }>(
    `select kind, coalesce(record_bytes, convert_to(record_json, 'UTF8')) as bytes, sum(attempts)::integer as times
      from whatsapp.quarantine where connection_id = $1 group by 1, 2`,
    CONNECTION,
  );
  return new Map(rows.map(({ kind, bytes, times }) => [`${kind} ${bytes.toString('latin1')}`, times]));
}

test('odd records in odd pages are stored as they are meant, or put aside as they came', async () => {
  const seed = inject('seed');
  const upstream = new Upstream(new Random(mix(seed, 8472)));
  const meant = new Meant();
  for (let page = 1; page <= PAGES; page++) {
    const cursor = BigInt(page);
    const records = ENTITIES.flatMap((entity) =>
      Array.from({ length: upstream.random.int(8) }, () => upstream.record(entity)),
    );
    meant.take(records, cursor);
    const body = upstream.page(records, cursor);
    const story = `TEST_SEED=${seed}, page ${page}`;
    await applyAnswer(database.db, body);
    for (const entity of ENTITIES)
      expect(await differences(entity, meant.rows(entity)), `${story}: ${entity.table}`).toEqual([]);
    expect(await putAside(), `${story}: put aside`).toEqual(meant.bad);
  }
});
