import { type Kysely, sql } from 'kysely';

/**
 * The queue of attachments, and where each file is. A row per message that carries one, from when MEDIA_STORE is on.
 * Files are shared by content, so that several rows may have one location.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table media (
      connection_id text not null,
      message_id text not null,
      state text not null default 'pending',
      mime_type text,
      bytes bigint,
      sha256 text,
      location text,
      attempts integer not null default 0,
      next_try_at timestamptz not null default now(),
      sent_at timestamptz not null default now(),
      claimed_by text,
      claimed_until timestamptz,
      writing text,
      error_kind text,
      error text,
      queued_at timestamptz not null default now(),
      stored_at timestamptz,
      primary key (connection_id, message_id)
    );
    comment on column media.state is 'pending, stored, unavailable or failed';
    comment on column media.mime_type is 'as the upstream said when it served the file';
    comment on column media.sha256 is 'of the file, in hex';
    comment on column media.location is
      'where the file is, as a URL (file: or s3:); kept while a changed message is fetched anew';
    comment on column media.sent_at is 'of the message, else when it was received or queued: newest first';
    comment on column media.claimed_by is 'the download that has it in hand, until claimed_until';
    comment on column media.writing is 'where a download is about to write: set before the file is there';
    comment on column media.error is 'why it failed, or did at the last try: a place and a code';

    create index media_pending on media (connection_id, sent_at) where state = 'pending';
    create index media_by_location on media (location) where location is not null;
    create index media_being_written on media (writing) where writing is not null;

    create view message_media as
    select m.connection_id, m.message_id, m.conversation_id, m.sent_at, m.content_type, m.media,
      a.state, a.location, a.mime_type, a.bytes, a.sha256, a.stored_at, a.error_kind, m.deleted_at
    from media a
    join messages m on m.connection_id = a.connection_id and m.message_id = a.message_id;
    comment on view message_media is 'the attachments: where a file is, its type and size, beside its message';
  `.execute(db);
}
