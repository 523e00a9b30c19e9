import { expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import { OneConnection } from './one-connection.ts';

const scene = OneConnection.use();

/** Refuses to write more than so many messages at once, as a limit of time does on a slow server. */
const allow = (most: number, code: string) =>
  scene.database.query(`
    create function whatsapp.tire() returns trigger language plpgsql as
      $$ begin if (select count(*) > ${most} from n) then raise exception 'no' using errcode = '${code}'; end if;
        return null; end $$;
    create trigger tire after insert on whatsapp.messages referencing new table as n
      for each statement execute function whatsapp.tire()`);

test.each([
  ['a statement', '57014'],
  ['a transaction', '25P04'],
])('a page that takes longer than %s may is asked for again with half the limit', async (_, code) => {
  await scene.upstream();
  await allow(100, code);
  await scene.replicate({ PAGE_LIMIT: '400' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  expect(new Set(scene.failures())).toEqual(new Set([`database ${code}`]));
});
