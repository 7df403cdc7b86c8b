// What the page says while it waits, when something fails, and whether anything jumps.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { accessible, launch, open, shot } from './browser.mjs';
import { small } from './fleet.mjs';
import { Manager, PSK, READ_TOKEN } from './manager.mjs';

let manager;
let fleet;
let browser;

before(async () => {
  manager = await Manager.start();
  fleet = small(manager.base, PSK, 10);
  for (let i = 3; i >= 0; i -= 1) await fleet.beat(Date.now() - i * 30_000);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await manager?.remove();
});

const words = (page, selector) => page.locator(selector).innerText();
/** Faults but for the browser's own words on answers that the test refused. */
const others = (page) => page.faults.filter((fault) => !/Failed to load resource/.test(fault));

test('while the manager thinks, every panel says that it loads', async () => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  let go;
  const gate = new Promise((open) => { go = open; });
  await page.route('**/status/**', async (route) => {
    await gate;
    await route.continue();
  });
  await page.goto(`${manager.base}/`);
  assert.match(await words(page, '#screen'), /Loading the map/);
  for (const panel of ['#alarms', '#nodes-body', '#changes', '#agents-body']) assert.match(await page.locator(panel).textContent(), /Loading/, panel);
  await accessible(page, 'loading');
  go();
  await page.waitForSelector('body[data-ready]');
  assert.equal(await page.locator('#screen').isVisible(), false);
  await context.close();
});

test('nothing jumps while it loads, refreshes and shows details', async () => {
  const page = await open(browser, manager.base);
  await fleet.beat();
  await page.waitForTimeout(6000);
  const shifts = await page.evaluate(() => new Promise((done) => {
    const found = [];
    new PerformanceObserver((list) => found.push(...list.getEntries())).observe({ type: 'layout-shift', buffered: true });
    setTimeout(() => done(found.filter((entry) => !entry.hadRecentInput).map((entry) => [entry.value, entry.sources.map(({ node }) => node?.id || node?.nodeName).join()])), 100);
  }));
  const sum = shifts.reduce((total, [value]) => total + value, 0);
  console.log(`# layout shift ${sum.toFixed(4)}: ${JSON.stringify(shifts)}`);
  assert.ok(sum < 0.05, `layout shift ${sum}`);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('each panel says what could not be loaded, and the rest works on', async () => {
  const page = await open(browser, manager.base);
  const fail = (route) => route.fulfill({ status: 503, json: { error: { code: 'unavailable', message: 'the database is locked', hint: 'wait' } } });
  for (const path of ['topology?of=*', 'agents/**', 'alarms*', 'events*', 'path*']) await page.route(`**/status/${path}`, fail);
  await page.evaluate(async (id) => (await import('/web/state.js')).select({ type: 'node', id }), fleet.routers[0].id);
  await page.waitForFunction(() => /Figures could not be loaded: the database is locked/.test(document.querySelector('#details').innerText));
  await page.waitForFunction(() => /Alarms could not be loaded: the database is locked/.test(document.querySelector('#alarms').innerText), null, { timeout: 30_000 });
  await page.selectOption('#time-range', '21600');
  await page.click('#tab-changes');
  await page.waitForFunction(() => /Changes could not be loaded: the database is locked/.test(document.querySelector('#changes').innerText));
  await page.click('#tab-path');
  await page.fill('#path-a', 'paris-gw');
  await page.fill('#path-b', 'warsaw-gw');
  await page.click('#path-form [type=submit]');
  await page.waitForFunction(() => /the database is locked/.test(document.querySelector('#path-answer').innerText));
  await page.fill('#path-a', 'nobody');
  await page.click('#path-form [type=submit]');
  await page.waitForFunction(() => /no host with an agent/.test(document.querySelector('#path-answer').innerText));
  await accessible(page, 'failures');
  await shot(page, 'failures');
  assert.deepEqual(others(page), []);
  await page.context().close();
});

test('a manager that fails from the start is told, with the reason and a button', async () => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  let broken = true;
  await page.route('**/status/**', (route) => (broken ? route.fulfill({ status: 503, json: { error: { code: 'unavailable', message: 'the database is locked', hint: 'wait a little' } } }) : route.continue()));
  await page.goto(`${manager.base}/`);
  await page.waitForSelector('#screen[data-kind=error]');
  assert.match(await words(page, '#screen'), /cannot be loaded[\s\S]*the database is locked[\s\S]*wait a little/);
  await accessible(page, 'the error');
  broken = false;
  await page.click('#screen button');
  await page.waitForSelector('body[data-ready]');
  await context.close();
});

test('a map that nobody refreshes any more is called old', async () => {
  const page = await open(browser, manager.base);
  await page.evaluate(async () => {
    const { state } = await import('/web/state.js');
    state.now += 120_000; // as if the manager's clock went on and no report came
  });
  await page.waitForFunction(() => /No agent has reported for 2 min/.test(document.querySelector('#banner').innerText));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('where a token is needed it is asked for once, and a wrong one is told', async () => {
  const guarded = await Manager.start({ READ_TOKEN_FILE: 'read-token' });
  try {
    await small(guarded.base, PSK, 10).beat();
    // Through a proxy nobody is near (DESIGN.md 2.8).
    const page = await open(browser, guarded.base, { ready: false, extraHTTPHeaders: { 'X-Forwarded-For': '203.0.113.9' } });
    await page.waitForSelector('#token[open]');
    await accessible(page, 'the token');
    await page.click('#token .cancel');
    assert.match(await words(page, '#screen'), /may read with a token only[\s\S]*READ_TOKEN_FILE/);
    await page.waitForTimeout(6000);
    assert.equal(await page.locator('#token').isVisible(), false, 'who left the dialog is not asked again and again');
    await page.click('#screen button');
    await page.fill('#token-value', 'not the read token');
    await page.click('#token-form [type=submit]');
    await page.waitForFunction(() => /not the read token/.test(document.querySelector('#token-error').textContent));
    await page.fill('#token-value', READ_TOKEN);
    await page.click('#token-form [type=submit]');
    await page.waitForSelector('body[data-ready]');
    await page.click('#more summary');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#exports button:has-text("DOT")')]);
    assert.match(readFileSync(await download.path(), 'utf8'), /helsinki-gw/);
    await page.reload();
    await page.waitForSelector('body[data-ready]');
    assert.equal(await page.locator('#token').isVisible(), false, 'it is remembered as long as the tab is');
    assert.deepEqual(others(page), []);
    await page.context().close();
  } finally {
    await guarded.remove();
  }
});
