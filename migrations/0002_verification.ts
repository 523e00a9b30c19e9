import { type Kysely, sql } from 'kysely';

/**
 * What the replica knows of its own completeness: verifications against the upstream, gaps that its window left, and
 * when upkeep last ran. A row of the ledger may stand for several pages of a day from here on.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table verifications (
      connection_id text not null,
      verification_id bigint generated always as identity,
      cause text not null default 'command',
      state text not null default 'running',
      repair boolean not null default false,
      since timestamptz,
      started_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      finished_at timestamptz,
      position jsonb,
      requests bigint not null default 0,
      counts jsonb not null default '{}',
      checked bigint not null default 0,
      drift bigint not null default 0,
      mended bigint not null default 0,
      remaining bigint not null default 0,
      not_served bigint not null default 0,
      ledger_problems integer not null default 0,
      error_kind text,
      error text,
      primary key (connection_id, verification_id)
    );
    comment on column verifications.cause is 'command, schedule or gap';
    comment on column verifications.state is 'running, interrupted, finished or failed';
    comment on column verifications.position is 'where an interrupted one goes on';
    comment on column verifications.counts is
      'by kind: checked, missing, older, different, mended, ahead, exempt, not_served';
    comment on column verifications.not_served is 'rows that the upstream serves no more: no drift';

    create table gaps (
      connection_id text not null,
      gap_id bigint generated always as identity,
      gap_from timestamptz not null default now(),
      gap_to timestamptz not null default now(),
      reason text not null default 'window_passed',
      found_by text not null default 'catch_up',
      recorded_at timestamptz not null default now(),
      alerted_at timestamptz,
      acknowledged_at timestamptz,
      note text,
      primary key (connection_id, gap_id)
    );
    comment on table gaps is 'what the upstream forgot before it was replicated';

    create table upkeep (
      connection_id text not null,
      job text not null,
      since timestamptz not null default now(),
      done_at timestamptz,
      error text,
      primary key (connection_id, job)
    );
    comment on column upkeep.done_at is 'the start of the last run that came to its end';

    alter table sync_pages add column pages integer not null default 1;
    comment on column sync_pages.pages is 'how many pages the row stands for; above 1 it is a day of them';

    alter table sync_state
      add column beside_conversations bigint not null default 0,
      add column beside_contacts bigint not null default 0,
      add column beside_messages bigint not null default 0,
      add column window_alert text;
    comment on column sync_state.beside_messages is
      'rows of stored_messages that no page of the ledger brought: repairs, and pages that moved no cursor';
    comment on column sync_state.window_alert is 'the last step that was told of: warn or error';
  `.execute(db);
}
