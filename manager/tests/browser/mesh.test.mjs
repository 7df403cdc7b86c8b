// The page on a real mesh: hosts in network namespaces with WireGuard, faults made by hand. Needs root.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, eventually, launch, open, shot } from './browser.mjs';
import { Mesh, lacking } from './mesh.mjs';

const skip = lacking() ?? false;
if (skip && process.env.CI === 'true') throw new Error(`CI=true and no mesh: ${skip}`);
if (skip) console.log(`# SKIPPED: the page on a real mesh: ${skip}`);

let mesh;
let browser;
let page;

before(async () => {
  if (skip) return;
  mesh = await Mesh.start();
  browser = await launch();
  page = await open(browser, mesh.base);
});

after(async () => {
  await browser?.close();
  await mesh?.remove();
});

const text = (selector) => page.locator(selector).innerText();
const looks = () => page.evaluate(async () => {
  const { view } = await import('/web/map.js');
  const { state } = await import('/web/state.js');
  const name = (id) => state.model.byId.get(id).name;
  return Object.fromEntries(state.model.links.filter((l) => l.layer === 'wireguard').map((l) => [[name(l.a), name(l.b)].sort().join('-'), view.linkById.get(l.id)?.look]));
});
const ways = (host) => async (look) => Object.entries(await looks()).filter(([ends, seen]) => ends.includes(host) && seen === look).length;
async function until(what, check, seconds = 60) {
  const started = Date.now();
  while (Date.now() - started < seconds * 1000) {
    if (await check()) return Date.now() - started;
    await page.waitForTimeout(100);
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

test('five hosts, their LANs and ten tunnels are on the map', { skip }, async () => {
  await until('ten tunnels up', async () => Object.values(await looks()).filter((look) => look === 'up').length === 10);
  assert.match(await text('#summary'), /5 hosts[\s\S]*all well/);
  assert.equal(await page.evaluate(async () => (await import('/web/state.js')).state.model.nodes.filter((node) => node.kind === 'lan').length), 2);
  await shot(page, 'mesh');
  assert.deepEqual(page.faults, []);
});

test('an interface that is set down is on the map within a refresh, then an alarm that is acknowledged', { skip }, async () => {
  const places = () => page.evaluate(async () => Object.fromEntries((await import('/web/layout.js')).layout.xy));
  const were = await places();
  await mesh.run('paris', 'ip link set wg0 down');
  const mapped = await until('four tunnels down', async () => (await ways('paris')('down')) === 4);
  console.log(`# a fault on a real host is seen ${mapped} ms after it (reports every 2 s, page asks every 5 s)`);
  assert.deepEqual(await places(), were, 'nothing moved');
  const alarm = page.locator('#alarms button', { hasText: 'WG_IFACE_DOWN' });
  await alarm.waitFor({ timeout: 60_000 });
  await alarm.click();
  const words = await text('#details');
  for (const part of ['paris\'s WireGuard interface wg0 is down', 'ip link set wg0 up', 'Evidence']) assert.ok(words.includes(part), part);
  await accessible(page, 'an alarm of a real mesh');
  await shot(page, 'mesh-alarm');
  await page.click('#details [data-key=ack]');
  await page.fill('#order-secret', mesh.secret);
  await page.click('#order-go');
  await page.waitForSelector('#order', { state: 'hidden' });
  await page.waitForFunction(() => /acknowledged for/.test(document.querySelector('#details').innerText), null, { timeout: 30_000 });
  assert.deepEqual(page.faults, []);
});

test('the agent\'s silence covers what is known of its host', { skip }, async () => {
  await mesh.order('stop paris');
  await page.locator('#alarms li', { hasText: 'AGENT_OFFLINE' }).locator('.caused button', { hasText: 'WG_IFACE_DOWN' }).waitFor({ timeout: 90_000 });
  assert.match(await text('#summary'), /1\s+offline/);
  await page.keyboard.press('Escape');
  await shot(page, 'mesh-silent');
  assert.deepEqual(page.faults, []);
});

test('a path leads over the mesh and says where it stops', { skip }, async () => {
  await mesh.order('start paris');
  await mesh.run('paris', 'ip link set wg0 up');
  await until('paris\' tunnels up', async () => (await ways('paris')('up')) === 4, 120);
  await page.click('#tab-path');
  await page.fill('#path-a', 'berlin');
  await page.fill('#path-b', 'lyon');
  await page.click('#path-form [type=submit]');
  await page.waitForFunction(() => /Delivered/.test(document.querySelector('#path-answer').innerText));
  await mesh.run('lyon', 'ip link set wg0 down');
  await until('lyon\'s tunnels down', async () => (await ways('lyon')('down')) === 4);
  await page.click('#path-form [type=submit]');
  await page.waitForFunction(() => document.querySelector('#path-answer .badge.down'));
  await shot(page, 'mesh-path');
  await page.click('#path-clear');
  assert.deepEqual(page.faults, []);
});

test('a peer that is removed at one end is half a link, and the past shows it whole', { skip }, async () => {
  await mesh.run('lyon', 'ip link set wg0 up');
  await mesh.run('hamburg', 'wg set wg0 peer "$(wg show wg0 dump | awk -v at=/32 \'/10.77.0.1\\/32/ {print $1}\')" remove');
  await until('a one-sided link', async () => Object.values(await looks()).includes('one_sided'));
  const half = await page.evaluate(async () => (await import('/web/state.js')).state.model.links.find((l) => l.state === 'one_sided').halves);
  assert.deepEqual(half.filter(Boolean), ['one_sided']);
  await page.click('#tab-changes');
  await eventually(page, () => /One-sided/.test(document.querySelector('#changes').innerText), undefined, 30_000);
  await shot(page, 'mesh-one-sided');
  assert.deepEqual(page.faults, []);
});
