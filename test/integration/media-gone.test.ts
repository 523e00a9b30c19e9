/** Whether an attachment that the upstream does not serve is gone, or only out of reach. */
import { expect, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import { waitFor } from '../support/wait.ts';
import { MediaScene } from './media-scene.ts';

const scene = MediaScene.use();
const { start, rows, queue, becomes, told, fails, kinds } = scene;

test.each([
  [404, 'not_found'],
  [410, 'bad_request'],
])('a %i is believed only of a connection that is reached', async (status, kind) => {
  const { connection, id } = scene.served[0]!;
  const notFound: Fault = { kind: 'answer', status: 404 };
  scene.simulator.faults.script(notFound, 3, { route: 'status', connection: connection.id });
  fails({ kind: 'answer', status }, 4);
  await queue();
  await start();
  await becomes('unavailable');
  // Four of them, each judged by how the connection stands.
  expect(kinds('held')).toEqual(['not_found', 'not_found', 'not_found']);
  expect(await rows()).toMatchObject([{ message_id: id, attempts: 1, error_kind: kind }]);
});

test.each([
  [404, '{"paired":false}'],
  [404, '{"paired":true,"connected":false}'],
  [410, '{"paired":false}'],
])(
  'a %i of an account that stands as %s is not: whoever pairs it again finds the file',
  async (status, body) => {
    const { connection } = scene.served[0]!;
    const standing: Fault = { kind: 'answer', status: 200, body };
    scene.simulator.faults.script(standing, 2, { route: 'status', connection: connection.id });
    fails({ kind: 'answer', status }, 2);
    await queue();
    await start();
    await becomes('stored');
    expect(kinds('again')).toHaveLength(2);
    // Nor does what stands for it hold up those that are served.
    expect(kinds('held')).toEqual([]);
    expect(await rows()).toMatchObject([{ attempts: 3, error_kind: null }]);
  },
);

test('what several of them hold up has the account for its hint, and not the key', async () => {
  const { connection } = scene.served[0]!;
  const standing: Fault = { kind: 'answer', status: 200, body: '{"paired":false}' };
  scene.simulator.faults.script(standing, 3, { route: 'status', connection: connection.id });
  fails({ kind: 'answer', status: 404 }, 3);
  await queue();
  await start();
  await becomes('stored');
  expect(scene.archive.events.filter(({ type }) => type === 'held')).toMatchObject([
    { error: { kind: 'not_found', hint: expect.stringContaining('paired') } },
  ]);
});

test('nor is it for having been reached before', async () => {
  const [first, second] = scene.served;
  await queue(first!);
  await start();
  await becomes('stored');
  const notFound: Fault = { kind: 'answer', status: 404 };
  scene.simulator.faults.script(notFound, 1_000, { route: 'status', connection: second!.connection.id });
  fails(notFound);
  await queue(second!);
  scene.archive.archive.wake();
  await becomes('stored', 2);
  expect(kinds('held')).toEqual(['not_found']);
});

test('nor for a file whose answer had begun before, however late it ends', async () => {
  const [first, second] = scene.served;
  let answered = false;
  let refused = false;
  await queue(first!);
  await start({ REQUEST_TIMEOUT: '60s' }, ({ admission }) => {
    const beside = admission.beside.bind(admission);
    admission.beside = async (...args) => {
      const answer = await beside(...args).catch(async (error) => {
        refused = true;
        await told('stored');
        throw error;
      });
      answered = true;
      await waitFor(() => refused, { what: 'the second to be refused' });
      return answer;
    };
  });
  await waitFor(() => answered, { what: 'the first to be answered' });
  const notFound: Fault = { kind: 'answer', status: 404 };
  scene.simulator.faults.script(notFound, 1_000, { route: 'status', connection: second!.connection.id });
  fails(notFound);
  await queue(second!);
  scene.archive.archive.wake();
  await becomes('stored', 2);
  expect(kinds('held')).toEqual(['not_found']);
});

test('nor for what was asked of the connection before', async () => {
  const [first, second] = scene.served;
  const notFound: Fault = { kind: 'answer', status: 404 };
  let told = false;
  let refused = 0;
  fails(notFound, 2);
  await queue(first!);
  await start({ REQUEST_TIMEOUT: '60s' }, ({ admission }) => {
    const beside = admission.beside.bind(admission);
    admission.beside = async (...args) => {
      return await beside(...args).catch((error) => {
        refused++;
        throw error;
      });
    };
    const ask = admission.ask.bind(admission);
    admission.ask = async (...args) => {
      const answer = await ask(...args);
      told = true;
      await waitFor(() => refused === 2, { what: 'the second to be refused' });
      return answer;
    };
  });
  await waitFor(() => told, { what: 'the connection to be told of' });
  scene.simulator.faults.script(notFound, 1, { route: 'status', connection: second!.connection.id });
  await queue(second!);
  scene.archive.archive.wake();
  await becomes('unavailable');
  await becomes('stored');
  expect(kinds('held')).toEqual(['not_found']);
});
