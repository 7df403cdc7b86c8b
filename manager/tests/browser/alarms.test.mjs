// Alarms of the real engine: shown, found on the map, acknowledged and silenced with the admin secret.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, eventually, launch, open, shot } from './browser.mjs';
import { small } from './fleet.mjs';
import { Manager, PSK, SECRET } from './manager.mjs';

let manager;
let fleet;
let browser;
let page;
let beating;

before(async () => {
  manager = await Manager.start();
  fleet = small(manager.base, PSK, 2);
  await fleet.beat();
  beating = setInterval(() => fleet.beat().catch(() => {}), 2000);
  browser = await launch();
  page = await open(browser, manager.base);
});

after(async () => {
  clearInterval(beating);
  await browser?.close();
  await manager?.remove();
});

const text = (selector) => page.locator(selector).innerText();
const firing = (code) => manager.until('alarms?state=all', ({ alarms }) => alarms.some((alarm) => alarm.code === code && alarm.state === 'firing'), 60);
const entry = (code) => page.locator('#alarms button', { hasText: code }).first();

test('what is wrong is listed, the worst first, and marked on the map', async () => {
  await firing('CLOCK_SKEW');
  await firing('PEER_ONE_SIDED');
  await entry('CLOCK_SKEW').waitFor();
  assert.match(await text('#alarms'), /Firing/);
  assert.ok(Number(await text('#tab-alarms .n')) >= 2);
  await eventually(page, async (id) => (await import('/web/map.js')).view.alarms.has(id), fleet.lab.id);
  await accessible(page, 'the alarms');
  assert.deepEqual(page.faults, []);
});

test('an alarm tells its cause, evidence and next step, and shows on the map', async () => {
  await entry('PEER_ONE_SIDED').click();
  const words = await text('#details');
  for (const part of ['warsaw-gw has roaming-laptop as a WireGuard peer', 'Next:', 'Likely cause', 'Evidence', 'ago', 'Came and went']) assert.ok(words.includes(part), `${part}: ${words}`);
  const lit = await page.evaluate(async () => (await import('/web/map.js')).view.lit.map((l) => l.look));
  assert.deepEqual(lit, ['one_sided']);
  await accessible(page, 'an alarm');
  await shot(page, 'alarm');
  await page.click('#details [data-key=show]');
  assert.match(await text('#details h2'), /warsaw-gw ⇄ roaming-laptop|roaming-laptop ⇄ warsaw-gw/);
  assert.match(await text('#details .alarms'), /PEER_ONE_SIDED/);
  assert.deepEqual(page.faults, []);
});

test('an alarm is acknowledged; the admin secret is asked for once and never sent', async () => {
  const posted = [];
  page.on('request', (request) => request.method() === 'POST' && posted.push(request.postData()));
  await entry('PEER_ONE_SIDED').click();
  await page.click('#details [data-key=ack]');
  await page.waitForSelector('#order[open]');
  await accessible(page, 'the order');
  await page.fill('#order-secret', 'not the admin secret');
  await page.click('#order-go');
  await page.waitForFunction(() => document.querySelector('#order-error').textContent.length > 5);
  assert.ok(!(await manager.get('alarms')).alarms.some((alarm) => alarm.state === 'acknowledged'));
  page.faults = page.faults.filter((fault) => !/401/.test(fault)); // the browser itself tells of a refusal
  await page.fill('#order-secret', SECRET);
  await page.click('#order-go');
  await page.waitForSelector('#order', { state: 'hidden' });
  await manager.until('alarms?state=acknowledged', ({ alarms }) => alarms[0]?.code === 'PEER_ONE_SIDED');
  await page.waitForFunction(() => /Acknowledged/.test(document.querySelector('#alarms').innerText));
  await page.waitForFunction(() => /acknowledged for/.test(document.querySelector('#details').innerText));
  assert.equal(posted.length, 2);
  for (const body of posted) assert.ok(!body.includes('secret'), body);

  await entry('CLOCK_SKEW').click();
  await page.click('#details [data-key=ack]');
  await manager.until('alarms?state=acknowledged', ({ alarms }) => alarms.length === 2);
  assert.equal(await page.locator('#order').isVisible(), false, 'it is not asked for again');
  assert.deepEqual(page.faults, []);
});

test('a code is silenced, which is shown and lifted', async () => {
  await firing('COLLECT_PROBLEM');
  await entry('COLLECT_PROBLEM').click();
  await page.click('#details [data-key=silence]');
  await page.selectOption('#order-for', { label: '8 hours' });
  await page.click('#order-go');
  await page.waitForSelector('#order', { state: 'hidden' });
  const { silences } = await manager.get('alarms');
  assert.equal(silences[0].target, 'COLLECT_PROBLEM');
  await page.waitForSelector('#alarms .silences button');
  assert.match(await text('#alarms .silences'), /COLLECT_PROBLEM[\s\S]*8\.0 h|COLLECT_PROBLEM[\s\S]*7\.\d h/);
  await accessible(page, 'a silence');
  await shot(page, 'silence');
  await page.click('#alarms .silences button');
  await manager.until('alarms', (answer) => answer.silences.length === 0);
  assert.deepEqual(page.faults, []);
});

test('an alarm that ends is among the past ones', async () => {
  fleet.lab.clock = 0;
  await manager.until('alarms?state=resolved', ({ alarms }) => alarms.some((alarm) => alarm.code === 'CLOCK_SKEW'), 60);
  await page.click('#alarms-all');
  await page.waitForFunction(() => /Over, in the last day[\s\S]*CLOCK_SKEW/.test(document.querySelector('#alarms').innerText));
  await accessible(page, 'past alarms');
  await page.click('#alarms-all');
  assert.deepEqual(page.faults, []);
});
