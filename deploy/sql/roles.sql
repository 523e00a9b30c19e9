-- Least privilege for wa-replica: three roles, and what each may do.
--
--   wa_replica_owner   owns the schema and migrates; used for `wa-replica migrate` alone
--   wa_replica_writer  runs the daemon (MIGRATE_ON_START=false); reads and writes rows, creates and drops nothing
--   wa_replica_reader  for the CRM and for reports; reads, and nothing else but consume the change feed: its functions
--                      keep the positions with the owner's rights
--
-- Run it in the database that is to hold the replica, as a superuser or as a role with CREATEROLE that may create
-- schemas there, before the first `migrate` or after it; running it again changes nothing.
--   psql "$ADMIN_DATABASE_URL" -v ON_ERROR_STOP=1 -f roles.sql
-- Then give them passwords, which do not belong into a file:
--   psql "$ADMIN_DATABASE_URL" -c '\password wa_replica_owner'     (and the others)
-- For another schema than `whatsapp`, replace that word throughout.

begin;

do $$
declare
  name text;
begin
  foreach name in array array['wa_replica_owner', 'wa_replica_writer', 'wa_replica_reader'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I login nosuperuser nocreatedb nocreaterole noinherit', name);
    end if;
    execute format('grant connect on database %I to %I', current_database(), name);
  end loop;
  -- Whoever runs this must be able to act for the owner, and becomes a member of it; a superuser is already.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant wa_replica_owner to %I', current_user);
  end if;
end
$$;

create schema if not exists whatsapp authorization wa_replica_owner;
grant usage on schema whatsapp to wa_replica_writer, wa_replica_reader;

-- What was made by another role before is handed over.
do $$
declare
  found record;
begin
  execute 'alter schema whatsapp owner to wa_replica_owner';
  for found in
    select c.oid::regclass as name from pg_class c
    where c.relnamespace = 'whatsapp'::regnamespace and c.relkind in ('r', 'p', 'v')
      and c.relowner <> 'wa_replica_owner'::regrole
  loop
    execute format('alter table %s owner to wa_replica_owner', found.name);
  end loop;
  for found in
    select p.oid::regprocedure as name from pg_proc p
    where p.pronamespace = 'whatsapp'::regnamespace and p.proowner <> 'wa_replica_owner'::regrole
  loop
    execute format('alter routine %s owner to wa_replica_owner', found.name);
  end loop;
end
$$;

set local role wa_replica_owner;
grant select, insert, update, delete on all tables in schema whatsapp to wa_replica_writer;
grant select on all tables in schema whatsapp to wa_replica_reader;
-- For numbers that come again after a copy which left them behind its rows (docs/operations.md): the daemon moves them on.
grant select, update on all sequences in schema whatsapp to wa_replica_writer;

-- The tables and views that later migrations bring.
alter default privileges for role wa_replica_owner in schema whatsapp
  grant select, insert, update, delete on tables to wa_replica_writer;
alter default privileges for role wa_replica_owner in schema whatsapp
  grant select on tables to wa_replica_reader;
alter default privileges for role wa_replica_owner in schema whatsapp
  grant select, update on sequences to wa_replica_writer;

-- The functions of the change feed; only who is granted them may call them (docs/changes.md).
do $$
declare
  found record;
begin
  for found in
    select p.oid::regprocedure as name, p.prosecdef as as_owner from pg_proc p
    where p.pronamespace = 'whatsapp'::regnamespace and p.proowner = 'wa_replica_owner'::regrole
  loop
    -- A restore without privileges has let everybody do what these do with the owner's rights.
    if found.as_owner then execute format('revoke execute on routine %s from public', found.name); end if;
    execute format('grant execute on routine %s to wa_replica_writer, wa_replica_reader', found.name);
  end loop;
end
$$;
alter default privileges for role wa_replica_owner in schema whatsapp
  grant execute on functions to wa_replica_writer, wa_replica_reader;

-- Which migrations were applied is the owner's to say. Before the first `migrate` there is nothing to take away yet:
-- run this file once more after it.
do $$
begin
  if to_regclass('whatsapp.kysely_migration') is not null then
    revoke insert, update, delete on whatsapp.kysely_migration, whatsapp.kysely_migration_lock
      from wa_replica_writer;
  end if;
end
$$;

commit;
