import { type Kysely, sql } from 'kysely';

/**
 * The tables of the replica. No foreign keys between replicated entities: a message may come before its
 * conversation (R8). Every key begins with connection_id, so that each table can be distributed or
 * partitioned on it. Indexes beyond the keys exist only where a documented query needs them.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table connections (
      connection_id text primary key,
      jid text,
      paired boolean,
      connected boolean,
      discovered_at timestamptz not null default now(),
      removed_at timestamptz
    );

    create table sync_state (
      connection_id text primary key,
      epoch integer not null default 1,
      numbering integer not null default 1,
      cursor bigint not null default 0,
      caught_up_at timestamptz,
      last_polled_at timestamptz,
      last_changed_at timestamptz,
      last_error text,
      last_error_kind text,
      consecutive_failures integer not null default 0,
      next_poll_at timestamptz,
      lease_owner text,
      lease_term bigint not null default 0,
      lease_expires_at timestamptz,
      has_more boolean not null default false,
      epoch_started_at timestamptz not null default now(),
      epoch_reason text not null default 'first',
      last_reset_at timestamptz,
      stored_conversations bigint not null default 0,
      stored_contacts bigint not null default 0,
      stored_messages bigint not null default 0
    );
    comment on column sync_state.epoch is 'counts the starts from cursor 0; orders the ledger';
    comment on column sync_state.numbering is 'rises when the upstream numbers anew; orders rows';
    comment on column sync_state.last_reset_at is 'when it last started over without a person';
    comment on column sync_state.stored_messages is 'rows in messages, kept in the page transaction';

    create table workers (
      worker_id text primary key,
      started_at timestamptz not null default now(),
      heartbeat_at timestamptz not null default now(),
      version text,
      host text
    );

    create table sync_pages (
      connection_id text not null,
      page_id bigint generated always as identity,
      epoch integer not null default 1,
      numbering integer not null default 1,
      cursor_from bigint not null default 0,
      cursor_to bigint not null default 0,
      has_more boolean not null default false,
      conversations integer not null default 0,
      contacts integer not null default 0,
      messages integer not null default 0,
      quarantined integer not null default 0,
      body_sha256 text,
      worker text,
      applied_at timestamptz not null default now(),
      primary key (connection_id, page_id)
    );
    -- The ledger grows at its end: a few bytes find the last hour.
    create index sync_pages_by_time on sync_pages using brin (applied_at);

    create table conversations (
      connection_id text not null,
      conversation_id text not null,
      chat_jid text,
      kind text,
      subject text,
      direct_person_id text,
      is_archived boolean,
      last_message_at timestamptz,
      seq bigint not null default 0,
      extra jsonb,
      numbering integer not null default 1,
      first_synced_at timestamptz not null default now(),
      synced_at timestamptz not null default now(),
      primary key (connection_id, conversation_id)
    );

    create table conversation_participants (
      connection_id text not null,
      conversation_id text not null,
      participant_jid text not null,
      person_id text,
      role text,
      extra jsonb,
      primary key (connection_id, conversation_id, participant_jid)
    );

    create table contacts (
      connection_id text not null,
      person_id text not null,
      display_name text,
      first_name text,
      last_name text,
      company text,
      whatsapp_push_name text,
      phone_e164 text,
      phone_jid text,
      lid_jid text,
      version bigint not null default 0,
      extra jsonb,
      numbering integer not null default 1,
      first_synced_at timestamptz not null default now(),
      synced_at timestamptz not null default now(),
      primary key (connection_id, person_id)
    );
    comment on column contacts.version is 'the cursor of the answer that brought this content';

    create table messages (
      connection_id text not null,
      message_id text not null,
      conversation_id text,
      chat_jid text,
      wa_message_id text,
      sender_jid text,
      sender_push_name text,
      direction text,
      is_from_me boolean,
      content_type text,
      body text,
      status text,
      reply_to_wa_id text,
      reactions jsonb,
      media jsonb,
      sent_at timestamptz,
      received_at timestamptz,
      edited_at timestamptz,
      deleted_at timestamptz,
      seq bigint not null default 0,
      extra jsonb,
      numbering integer not null default 1,
      first_synced_at timestamptz not null default now(),
      synced_at timestamptz not null default now(),
      primary key (connection_id, message_id)
    );
    create index messages_by_conversation on messages (connection_id, conversation_id, sent_at);
    create index messages_by_time on messages (connection_id, sent_at);

    create table message_revisions (
      connection_id text not null,
      message_id text not null,
      revision integer not null,
      content_type text,
      body text,
      media jsonb,
      edited_at timestamptz,
      deleted_at timestamptz,
      seq bigint not null default 0,
      numbering integer not null default 1,
      held_from timestamptz,
      held_until timestamptz not null default now(),
      primary key (connection_id, message_id, revision)
    );

    create table quarantine (
      quarantine_id bigint generated always as identity,
      connection_id text not null,
      kind text not null,
      record_id text,
      conversation_id text,
      record_json text not null default '',
      record_bytes bytea,
      record_sha256 text not null default '',
      error_code text,
      error text,
      version bigint not null default 0,
      numbering integer not null default 1,
      cursor_from bigint not null default 0,
      cursor_to bigint not null default 0,
      first_seen_at timestamptz not null default now(),
      last_seen_at timestamptz not null default now(),
      attempts integer not null default 1,
      resolved_at timestamptz,
      resolution text,
      primary key (connection_id, quarantine_id)
    );
    create unique index quarantine_open on quarantine (connection_id, kind, record_sha256)
      where resolved_at is null;
    comment on column quarantine.record_bytes is 'set where the bytes that came are not valid UTF-8';
    comment on column quarantine.conversation_id is 'of a participant: the conversation it came in';
  `.execute(db);
}
