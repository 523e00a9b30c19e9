import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { CHROMIUM, openBrowser } from '../support/browser.ts';
import { type CliProcess, startCli } from '../support/cli.ts';
import { httpOf } from '../support/daemons.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ask, basic, readiness } from '../support/http.ts';
import {
  BREAK_IN,
  FOCUSED,
  GROUND,
  LOOK_AGAIN,
  OVERHANG,
  PALE,
  STRANGE_ELEMENTS,
  WATCH_POLICY,
} from '../support/page-scripts.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const TOKEN = 'token of the page';
const SCRIPT = '<script>alert(1)</script>';
const IMAGE = '"><img src=x onerror=alert(2)>';
const LONG = `conn_${'0123456789abcdef'.repeat(8)}`;

let simulator: Simulator;
let database: TestDatabase;
let daemon: CliProcess;
let base: string;
let browser: Browser;
/** What the browser complained of. */
let complaints: string[] = [];

describe.skipIf(CHROMIUM === undefined)('the page in a browser', () => {
  beforeAll(async () => {
    simulator = await startSimulator({ messages: 300, connections: ['conn_live', 'conn_parked'] });
    simulator.world.connection('conn_parked').state.paired = false;
    database = await createTestDatabase();
    daemon = startCli(['run'], settings({ HTTP_PORT: '0' }));
    base = await httpOf(daemon);
    await readiness(base, { status: 200, says: 'degraded' });
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await daemon?.kill('SIGKILL');
    await simulator?.close();
    await database?.drop();
  });
  beforeEach(() => {
    complaints = [];
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await database.query(`delete from whatsapp.connections where connection_id not like 'conn\\_%'`);
    await database.query('delete from whatsapp.connections where length(connection_id) > 100');
  });

  const settings = (more: Record<string, string>) => ({
    ...quickSettings(database.url, simulator.url),
    WHATSAPP_USE_CONNECTION_IDS: 'conn_live,conn_parked',
    HTTP_AUTH_TOKEN: TOKEN,
    ...more,
  });

  /** A connection that only the tables know. */
  async function addConnection(id: string, state: Record<string, string | null> = {}): Promise<void> {
    await database.query('insert into whatsapp.connections (connection_id) values ($1)', [id]);
    await database.query(
      `insert into whatsapp.sync_state (connection_id, last_polled_at, last_error_kind, last_error, consecutive_failures)
        values ($1, now(), $2, $3, 3)
        on conflict (connection_id) do update set last_error_kind = $2, last_error = $3`,
      [id, state.kind ?? null, state.error ?? null],
    );
  }

  async function open(options: BrowserContextOptions = {}, url = base): Promise<Page> {
    const context = await browser.newContext({
      httpCredentials: { username: 'anyone', password: TOKEN },
      ...options,
    });
    const page = await context.newPage();
    page.on('console', (message) => void complaints.push(message.text()));
    page.on('pageerror', (error) => void complaints.push(error.message));
    page.on('dialog', (dialog) => {
      complaints.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.addInitScript(WATCH_POLICY);
    const response = await page.goto(url);
    expect(response?.status()).toBe(200);
    return page;
  }

  const cardOf = (page: Page, id: string) =>
    page.locator('.card').filter({ has: page.getByText(id, { exact: true }) });
  /** Asked again and again: the page looks every five seconds. */
  const shows = (page: Page, text: string) => page.getByText(text).first().waitFor({ timeout: 15_000 });

  test('shows at a glance what is live and what needs somebody, with what to do', async () => {
    await addConnection('new one');
    const page = await open();
    await shows(page, '1 of 3 connections does not replicate');
    expect(await page.title()).toBe('⚠ wa-replica');
    const parked = await cardOf(page, 'conn_parked').innerText();
    expect(parked).toContain('needs you');
    expect(parked).toMatch(/not_paired: GET \/v1\/whatsapp\/sync: HTTP 409, \d+ failures? in a row/);
    expect(parked).toContain('pair the WhatsApp account again');
    const live = await cardOf(page, 'conn_live').innerText();
    expect(live).toMatch(/^conn_live\s+live\s+behind\s+\d/);
    expect(live).toMatch(/window left\s+30 d 0 h/);
    expect(live).toMatch(/messages\s+150\s+verified\s+never\s+\d+ conversations, \d+ contacts/);
    expect(live).toMatch(/last hour: \d+ records, peak \d+\/min/);
    expect(await cardOf(page, 'new one').innerText()).toContain('catching up, no worker has it');
    // Those that need somebody come first.
    expect(await page.locator('.card h2').allTextContents()).toEqual(['conn_parked', 'new one', 'conn_live']);
    expect(complaints).toEqual([]);
  });

  test('a failure is no alarm until it has lasted for READY_MAX_LAG', async () => {
    await addConnection('flaky', { kind: 'network', error: 'no answer' });
    const caughtUp = (ago: string) =>
      database.query(
        `update whatsapp.sync_state set caught_up_at = now() - interval '${ago}' where connection_id = 'flaky'`,
      );
    await caughtUp('4 minutes');
    const page = await open();
    await shows(page, '1 of 3 connections does not replicate');
    expect(await cardOf(page, 'flaky').innerText()).toContain('retrying');
    await caughtUp('6 minutes');
    await page.evaluate(LOOK_AGAIN);
    await shows(page, '2 of 3 connections do not replicate');
    expect(complaints).toEqual([]);
  });

  test('what somebody should see to comes first, and whole where many are small', async () => {
    const fine = Array.from({ length: 12 }, (_, i) => `fine ${i}`);
    for (const id of [...fine, 'lossy']) await addConnection(id);
    await database.query(
      `update whatsapp.sync_state set caught_up_at = now() where connection_id like 'fine %' or connection_id = 'lossy'`,
    );
    await database.query(`insert into whatsapp.gaps (connection_id) values ('lossy')`);
    const page = await open();
    expect(await cardOf(page, 'fine 3').innerText()).toMatch(
      /^fine 3\s+live.*\s+behind\s+\S+ s\s+window left\s+.*\s+messages\s+0$/,
    );
    const lossy = await cardOf(page, 'lossy').innerText();
    expect(lossy).toMatch(/live.*1 gap:.*gaps list.*verified\s+never/s);
    expect((await page.locator('.card.live h2').allTextContents())[0]).toBe('lossy');
    expect(complaints).toEqual([]);
  });

  test('an id is only text, whatever it is', async () => {
    for (const id of [SCRIPT, IMAGE]) await addConnection(id, { kind: 'network', error: `${id}'&amp;` });
    const page = await open();
    for (const id of [SCRIPT, IMAGE]) {
      const card = cardOf(page, id);
      expect(await card.locator('h2').textContent()).toBe(id);
      expect(await card.innerText()).toContain(`network: ${id}'&amp;, 3 failures in a row`);
    }
    await page.evaluate(LOOK_AGAIN);
    expect(await page.evaluate('document.scripts.length')).toBe(1);
    expect(await page.evaluate(STRANGE_ELEMENTS)).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('the policy lets nothing in but what came with the page, and the page keeps to it', async () => {
    const page = await open();
    const headers = (await ask(base, { headers: basic('x', TOKEN) })).headers;
    const policy = String(headers['content-security-policy']);
    expect(policy).toMatch(/^default-src 'none'; style-src 'nonce-[\w+/=]{24}'; script-src 'nonce-/);
    for (const directive of ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]) {
      expect(policy).toContain(directive);
    }
    expect(policy).not.toMatch(/unsafe|\*/);
    const again = String(
      (await ask(base, { headers: basic('x', TOKEN) })).headers['content-security-policy'],
    );
    expect(again).not.toBe(policy);
    expect(await page.evaluate('window.violations')).toEqual([]);
    expect(complaints).toEqual([]);
    // It is in force: what gets into the page all the same does not run.
    await page.evaluate(BREAK_IN);
    await page.waitForFunction('window.violations.length >= 2');
    expect(await page.evaluate('window.marked')).toBeUndefined();
  });

  test('updates itself, and keeps the focus', async () => {
    const page = await open();
    await page.evaluate('window.marked = "not loaded again"');
    const card = cardOf(page, 'conn_live');
    await card.focus();
    const rows = await card.locator('dd').nth(2).textContent();
    simulator.world.applyChanges(50, 'conn_live');
    simulator.world.connection('conn_parked').state.paired = true;
    // By itself.
    await shows(page, 'All 2 connections are live');
    // Either may be there first.
    const changed = async () => (await card.locator('dd').nth(2).textContent()) !== rows;
    await waitFor(changed, { what: 'the other count of rows' });
    expect(await page.title()).toBe('wa-replica');
    simulator.world.connection('conn_parked').state.paired = false;
    await readiness(base, { status: 200, says: 'degraded' });
    // And at once for a reader who comes back to it.
    await page.evaluate(LOOK_AGAIN);
    await shows(page, 'needs you');
    expect(await page.evaluate('window.marked')).toBe('not loaded again');
    expect(await page.evaluate(FOCUSED)).toMatchObject({ id: 'conn_live' });
    expect(complaints).toEqual([]);
  });

  test('the keyboard reaches every card, and shows where it is', async () => {
    const page = await open();
    for (const id of ['conn_parked', 'conn_live']) {
      await page.keyboard.press('Tab');
      expect(await page.evaluate(FOCUSED)).toEqual({ id, outline: 'solid' });
    }
  });

  test('dark and light, each with enough contrast', async () => {
    await addConnection('in trouble', { kind: 'stalled', error: 'no progress' });
    const grounds: unknown[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await open({ colorScheme });
      grounds.push(await page.evaluate(GROUND));
      expect([colorScheme, await page.evaluate(PALE)]).toEqual([colorScheme, []]);
    }
    expect(new Set(grounds).size).toBe(2);
  });

  test.each([360, 1280])('nothing scrolls sideways at %i px, with the longest of ids', async (width) => {
    await addConnection(LONG, { kind: 'network', error: `GET /v1/whatsapp/sync: ${'X'.repeat(200)}` });
    const page = await open({ viewport: { width, height: 700 } });
    await cardOf(page, LONG).waitFor();
    expect(await page.evaluate(OVERHANG)).toBeLessThanOrEqual(0);
  });

  test('shows no text of a message, no name and no number', async () => {
    const html = await (await open()).content();
    const texts = await database.query<{ text: string }>(`select distinct text from (
        select body as text from whatsapp.messages union select sender_push_name from whatsapp.messages
        union select unnest(array[display_name, phone_e164, phone_jid, lid_jid]) from whatsapp.contacts
        union select subject from whatsapp.conversations) t where length(text) > 4`);
    expect(texts.length).toBeGreaterThan(50);
    expect(texts.filter(({ text }) => html.includes(text))).toEqual([]);
  });

  test('a browser is asked for the token; a wrong one is refused', async () => {
    const url = base.replace('//', `//anyone:${encodeURIComponent(TOKEN)}@`);
    // In the address, too, where a page may not fetch relative to it.
    const page = await open({}, url);
    await page.evaluate(LOOK_AGAIN);
    await page.waitForResponse(
      (response) => response.request().resourceType() === 'fetch' && response.status() === 200,
    );
    expect(await page.locator('#stale').isHidden()).toBe(true);
    expect(complaints).toEqual([]);
    const wrong = await browser.newContext({ httpCredentials: { username: 'anyone', password: 'wrong' } });
    const refused = await (await wrong.newPage()).goto(base);
    expect(refused?.status()).toBe(401);
  });

  test('a daemon that does not answer any more is told of, and so is its return', async () => {
    const page = await open();
    const { port } = new URL(base);
    await daemon.kill('SIGKILL');
    await page.evaluate(LOOK_AGAIN);
    await page.locator('#stale').waitFor({ timeout: 15_000 });
    expect(await page.title()).toBe('⚠ wa-replica');
    daemon = startCli(['run'], settings({ HTTP_PORT: port }));
    await httpOf(daemon);
    await page.evaluate(LOOK_AGAIN);
    await page.locator('#stale').waitFor({ state: 'hidden', timeout: 15_000 });
  });
});
