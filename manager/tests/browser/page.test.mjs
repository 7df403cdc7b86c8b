// Every panel of the page on a small mesh with faults, in a real browser against a real manager.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { accessible, eventually, launch, open, placeOf, shot } from './browser.mjs';
import { small } from './fleet.mjs';
import { Manager, PSK } from './manager.mjs';

let manager;
let fleet;
let browser;
let page;
let beating;

before(async () => {
  manager = await Manager.start();
  browser = await launch();
});

after(async () => {
  clearInterval(beating);
  await browser?.close();
  await manager?.remove();
});

const text = (selector) => page.locator(selector).innerText();
const linkId = (brief, a, b) => {
  const place = (host) => brief.nodes.findIndex((node) => node.id === host.id);
  const ends = [place(a), place(b)].sort().join();
  return brief.edges.find((edge) => edge.layer === 'wireguard' && [...edge.ends].sort().join() === ends).id;
};

test('without agents the page says how to add the first', async () => {
  page = await open(browser, manager.base, { ready: false });
  await page.waitForSelector('#screen[data-kind=empty]');
  const words = await text('#screen');
  assert.match(words, /No agent has reported yet/);
  assert.match(words, /manager -enroll/);
  assert.match(words, new RegExp(`MANAGER_URL=${manager.base} PSK_FILE=.*\\./agent`));
  await accessible(page, 'the first run');
  await shot(page, 'first-run');
  assert.deepEqual(page.faults, []);
});

test('a mesh appears by itself, also with a hostile name, and nothing is fetched from elsewhere', async () => {
  fleet = small(manager.base, PSK, 10);
  // History for the charts: reports of the last minutes, the way a spool sends them.
  for (let i = 9; i >= 0; i -= 1) await fleet.beat(Date.now() - i * 30_000);
  beating = setInterval(() => fleet.beat().catch(() => {}), 10_000); // it may be gone for a while
  await manager.until('topology?detail=brief', (map) => map.edges.filter((edge) => edge.state === 'up').length > 30);
  await page.waitForSelector('body[data-ready]', { timeout: 60_000 });
  assert.match(await text('#summary'), /26 hosts/);
  await page.click('#tab-nodes');
  await page.waitForSelector('#nodes-body button');
  assert.match(await text('#nodes-body'), /<img src=x onerror=window\.__hit=1>/);
  assert.equal(await page.evaluate(() => window.__hit), undefined);
  assert.equal(await page.locator('#main img, #main script').count(), 0);
  await shot(page, 'map');
  assert.deepEqual(page.faults, []);
});

test('a host shows what is known of it, its traffic and its raw report', async () => {
  const { x, y } = await placeOf(page, fleet.routers[0].id);
  await page.mouse.click(x, y);
  await page.waitForSelector('#details .rates');
  const words = await text('#details');
  for (const part of ['helsinki-gw', 'Debian GNU/Linux 12', 'PSK generation', 'wg0', 'Interfaces', 'Routes']) assert.ok(words.includes(part), part);
  await page.click('#details summary');
  assert.match(await text('#details pre'), /"hostname": "helsinki-gw"/);
  await accessible(page, 'a host');
  await shot(page, 'host');
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#details').isVisible(), false);
  assert.deepEqual(page.faults, []);
});

test('the hostile host stays text in every panel', async () => {
  await page.evaluate(async (id) => (await import('/web/state.js')).select({ type: 'node', id }, { zoom: true }), fleet.hostile.id);
  await page.waitForSelector('#details .rates');
  assert.match(await text('#details h2'), /<img src=x/);
  assert.match(await text('#details'), /<b>wg<\/b> <img src=x/);
  await page.click('[data-to=agents]');
  assert.match(await text('#agents-body'), /"><script>window\.__hit=1<\/script>/);
  await page.click('#pages [data-to=map]');
  assert.equal(await page.evaluate(() => window.__hit), undefined);
  assert.deepEqual(page.faults, []);
});

test('external peers, LANs and the manager tell what is known of them', async () => {
  const parts = { external: ['Public key', '203.0.113.200:40000', 'Handshake with paris-gw'], lan: ['Hosts with an agent', 'Gateway'], manager: ['Reports stored', 'takes writes'] };
  for (const [kind, words] of Object.entries(parts)) {
    await page.evaluate(async (wanted) => {
      const { select, state } = await import('/web/state.js');
      select({ type: 'node', id: state.model.nodes.find((node) => node.kind === wanted).id });
    }, kind);
    await page.waitForFunction((all) => all.every((word) => document.querySelector('#details').innerText.includes(word)), words, { timeout: 30_000 });
  }
  await accessible(page, 'the manager');
  await page.keyboard.press('Escape');
  assert.deepEqual(page.faults, []);
});

test('interfaces unfold with what they stand on, and open', async () => {
  await page.evaluate(async (id) => (await import('/web/state.js')).select({ type: 'node', id }, { zoom: true }), fleet.lab.id);
  await page.click('#details [data-key=unfold]');
  await eventually(page, async (id) => (await import('/web/map.js')).view.index.has(`${id}/vxlan7`), fleet.lab.id);
  const stacked = await page.evaluate(async (id) => (await import('/web/map.js')).view.scene.links.some((l) => l.id === `stack:${id}:eth0.20:eth0`), fleet.lab.id);
  assert.ok(stacked, 'the VLAN stands on its parent');
  await page.waitForTimeout(400);
  await shot(page, 'interfaces');
  const { x, y } = await placeOf(page, `${fleet.lab.id}/vxlan7`);
  await page.mouse.click(x, y);
  await page.waitForFunction(() => /vxlan/.test(document.querySelector('#details').innerText) && /MTU/.test(document.querySelector('#details').innerText));
  assert.match(await text('#details'), /Port of\s+br0/);
  await page.keyboard.press('Escape');
  assert.deepEqual(page.faults, []);
});

test('a fault is on the map with the next refresh, and nothing moves', async () => {
  const places = () => page.evaluate(async () => Object.fromEntries((await import('/web/layout.js')).layout.xy));
  const were = await places();
  const brief = await manager.get('topology?detail=brief');
  const id = linkId(brief, fleet.routers[1], fleet.routers[2]);
  fleet.tunnels.find((t) => t.a === fleet.routers[1] && t.b === fleet.routers[2]).broken = true;
  await fleet.beat();
  await manager.until('topology?detail=brief', (map) => map.edges.find((edge) => edge.id === id)?.state === 'down');
  const started = Date.now();
  await eventually(page, async (wanted) => (await import('/web/map.js')).view.linkById.get(wanted)?.look === 'down', id);
  console.log(`# a fault is seen ${Date.now() - started} ms after the manager's map has it`);
  assert.match(await text('#summary'), /bad links/);
  assert.deepEqual(await places(), were, 'nothing moved');
  await page.evaluate(async (wanted) => (await import('/web/state.js')).select({ type: 'link', id: wanted }, { zoom: true }), id);
  await page.waitForSelector('#details .evidence li');
  const words = await text('#details');
  for (const part of ['oulu-gw ⇄ berlin-gw', 'Down', 'AllowedIPs', 'Evidence', 'last handshake', 'Changes in the last day', 'Up → Down']) assert.ok(words.includes(part), `${part}: ${words}`);
  await page.waitForTimeout(400);
  await accessible(page, 'a link');
  await shot(page, 'link');
  await page.keyboard.press('Escape');
  assert.deepEqual(page.faults, []);
});

test('a one-sided link is half a line', async () => {
  const half = await page.evaluate(async () => (await import('/web/state.js')).state.model.links.find((l) => l.state === 'one_sided'));
  assert.deepEqual(half.halves.filter(Boolean), ['one_sided']);
});

test('filters, search and the neighbourhood narrow the map', async () => {
  const count = (what) => page.evaluate(async (key) => (await import('/web/map.js')).view.scene[key].length, what);
  const links = await count('links');
  await page.uncheck('#layers input[value=physical]');
  assert.ok((await count('links')) < links);
  await page.check('#layers input[value=physical]');
  await page.click('#more summary');
  await page.selectOption('#site', { index: 1 });
  assert.ok((await count('nodes')) < 12);
  await page.selectOption('#site', '');
  await page.fill('#only', 'roaming-laptop');
  await page.press('#only', 'Tab');
  const hosts = await page.evaluate(async () => (await import('/web/map.js')).view.scene.nodes.filter((node) => !node.host).length);
  assert.ok(hosts < 6, `${hosts}: only the host and what it is linked to`);
  await page.fill('#only', 'nobody');
  await page.press('#only', 'Tab');
  assert.equal(await page.evaluate(() => document.querySelector('#only').validity.customError), true);
  await page.fill('#only', '');
  await page.press('#only', 'Tab');
  assert.equal(await count('links'), links);
  await page.check('#collapse');
  assert.ok((await count('nodes')) < 15);
  await shot(page, 'collapsed');
  await page.uncheck('#collapse');
  await page.keyboard.press('/');
  await page.keyboard.type('10.90.0.1/');
  await page.waitForSelector('#hits li');
  assert.match(await text('#hits'), /helsinki-gw/);
  await page.keyboard.press('Enter');
  assert.match(await text('#details h2'), /helsinki-gw/);
  const all = await count('nodes');
  await page.click('#details [data-key=focus]');
  assert.ok((await count('nodes')) < all);
  await page.keyboard.press('Escape');
  assert.equal(await count('nodes'), all);
  assert.deepEqual(page.faults, []);
});

test('the map is saved as SVG, and a hostile name stays text in it', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#exports button:has-text("SVG")')]);
  assert.equal(download.suggestedFilename(), 'kattila.svg');
  const svg = readFileSync(await download.path(), 'utf8');
  const seen = await page.evaluate((source) => {
    const { documentElement: root } = new DOMParser().parseFromString(source, 'image/svg+xml');
    const count = (tag) => root.getElementsByTagName(tag).length;
    return { tag: root.tagName, paths: count('path'), broken: count('parsererror'), foreign: count('img') + count('script'), text: root.textContent };
  }, svg);
  assert.deepEqual([seen.tag, seen.broken, seen.foreign], ['svg', 0, 0]);
  assert.ok(seen.paths > 30, `${seen.paths} paths`);
  for (const part of ['helsinki-gw', 'Site of oulu-gw', 'WireGuard', '<img src=x onerror=']) assert.ok(seen.text.includes(part), part);
  assert.deepEqual(page.faults, []);
});

test('the manager\'s own exports are saved too', async () => {
  for (const [name, file, begin] of [['NetJSON', 'kattila-netjson.json', '{"type":"NetworkGraph"'], ['DOT', 'kattila.dot', 'graph'], ['Mermaid', 'kattila.mmd', ''], ['Links CSV', 'kattila-links.csv', ''], ['Agents CSV', 'kattila-agents.csv', '']]) {
    const [download] = await Promise.all([page.waitForEvent('download'), page.click(`#exports button:has-text("${name}")`)]);
    assert.equal(download.suggestedFilename(), file);
    const content = readFileSync(await download.path(), 'utf8');
    assert.ok(content.includes(begin) && content.includes('helsinki-gw'), `${name}: ${content.slice(0, 200)}`);
  }
  assert.deepEqual(page.faults, []);
});

test('the map is walked by keyboard', async () => {
  await page.focus('#canvas');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowLeft');
  assert.notEqual(await text('#live'), '');
  await page.keyboard.press('Enter');
  assert.equal(await page.locator('#details').isVisible(), true);
  await page.keyboard.press('Escape');
});

test('a path is walked there and back, and says where it stops', async () => {
  await page.click('#tab-path');
  await page.fill('#path-a', 'paris-gw');
  await page.fill('#path-b', 'warsaw-gw');
  await page.click('#path-form [type=submit]');
  await page.waitForSelector('#path-answer .hops li');
  assert.match(await text('#path-answer'), /Delivered/);
  const lit = await page.evaluate(async () => (await import('/web/map.js')).view.lit.length);
  assert.ok(lit >= 1, 'the way is drawn');
  await page.click('#path-answer [data-key=back]');
  assert.match(await text('#path-answer'), /warsaw-gw/);
  await accessible(page, 'a path');
  await shot(page, 'path');
  await page.fill('#path-b', 'berlin-gw');
  await page.fill('#path-a', 'oulu-gw');
  await page.click('#path-form [type=submit]');
  await page.waitForFunction(() => /No handshake/.test(document.querySelector('#path-answer').innerText));
  assert.equal(await page.evaluate(async () => (await import('/web/map.js')).view.way.stopped), true, 'the map shows that it stops');
  await shot(page, 'path-stops');
  await page.click('#path-clear');
  assert.deepEqual(page.faults, []);
});

test('the past is shown with what changed since', async () => {
  await page.click('#tab-changes');
  await page.waitForSelector('#changes button');
  assert.match(await text('#changes'), /oulu-gw ⇄ berlin-gw/);
  await page.click('#mark');
  // The map right after the last change is that of now; the one before it is not.
  await page.click('#time-back');
  await page.waitForSelector('#banner.past');
  await page.click('#time-back');
  assert.match(await text('#banner'), /The past/);
  await page.waitForFunction(() => /Down|appeared|→/.test(document.querySelector('#changes').innerText));
  await accessible(page, 'the past');
  await shot(page, 'past');
  await page.click('#mark');
  await page.click('#time-live');
  await page.waitForSelector('#banner', { state: 'hidden' });
  assert.deepEqual(page.faults, []);
});

test('the table of agents sorts and filters', async () => {
  await page.click('#pages [data-to=agents]');
  await page.click('#agents-head [data-key=clock]');
  assert.match(await text('#agents-body tr:first-child'), /roaming-laptop.*off by/s);
  await page.fill('#agents-filter', 'berlin');
  assert.equal(await page.locator('#agents-body tr').count(), 6);
  await accessible(page, 'the agents');
  await shot(page, 'agents');
  await page.fill('#agents-filter', '');
  await page.click('#agents-body [data-key]');
  assert.equal(await page.locator('#details').isVisible(), true);
  await page.keyboard.press('Escape');
});

test('what was selected and where things were dragged is there again after a reload', async () => {
  const id = fleet.routers[3].id;
  const { x, y } = await placeOf(page, id);
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + 40, y + 30, { steps: 4 });
  await page.mouse.up();
  const at = () => page.evaluate(async (wanted) => (await import('/web/layout.js')).layout.xy.get(wanted).map(Math.round), id);
  const dragged = await at();
  await page.evaluate(async (wanted) => (await import('/web/state.js')).select({ type: 'node', id: wanted }), id);
  await page.reload();
  await page.waitForSelector('#details h2');
  assert.equal(await text('#details h2'), 'paris-gw');
  assert.deepEqual(await at(), dragged);
});

/** Two fingers zoom the map and not the page. */
async function pinched() {
  const scale = () => page.evaluate(async () => [(await import('/web/map.js')).view.k, visualViewport.scale]);
  const [before] = await scale();
  const fingers = await page.context().newCDPSession(page);
  const touch = (type, ...ys) => fingers.send('Input.dispatchTouchEvent', { type, touchPoints: ys.map((y, id) => ({ x: 190, y, id })) });
  await touch('touchStart', 380, 440);
  for (let step = 1; step <= 5; step += 1) await touch('touchMove', 380 - 12 * step, 440 + 12 * step);
  await touch('touchEnd');
  const [after, page_] = await scale();
  assert.ok(after > before * 1.5, `${before} -> ${after}`);
  assert.equal(page_, 1);
  await page.tap('#fit');
  await page.waitForTimeout(500);
}

test('a host that comes new moves none of the others', async () => {
  const places = () => page.evaluate(async () => Object.fromEntries((await import('/web/layout.js')).layout.xy));
  const were = await places();
  const fresh = fleet.host('berlin-new', 2, { lan: 8 });
  fleet.tunnel(fleet.routers[2], fresh);
  await fleet.beat();
  await eventually(page, async (id) => (await import('/web/map.js')).view.index.has(id), fresh.id, 30_000);
  const { [fresh.id]: place, ...others } = await places();
  assert.ok(place);
  assert.deepEqual(others, were);
  assert.deepEqual(page.faults, []);
});

test('it is dark, and on a phone, and touched', async () => {
  const dark = await open(browser, manager.base, { colorScheme: 'dark', hash: `#node=${fleet.routers[0].id}` });
  const desktop = page;
  page = dark;
  await page.waitForSelector('#details .rates');
  await page.waitForTimeout(500);
  await accessible(page, 'dark');
  await shot(page, 'dark');
  assert.deepEqual(page.faults, []);
  page = await open(browser, manager.base, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  await page.waitForTimeout(400);
  await shot(page, 'phone');
  await pinched();
  const { x, y } = await placeOf(page, fleet.routers[2].id);
  await page.touchscreen.tap(x, y);
  await page.waitForSelector('#details .rates');
  await accessible(page, 'on a phone');
  await shot(page, 'phone-host');
  for (const where of ['alarms', 'nodes', 'agents', 'filters']) {
    await page.tap(`#mobile [data-to=${where}]`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${where} is as wide as the phone`);
    await accessible(page, `on a phone: ${where}`);
    await shot(page, `phone-${where}`);
  }
  assert.deepEqual(page.faults, []);
  await page.context().close();
  await dark.context().close();
  page = desktop;
});

test('a manager that is gone is told, and the last map stays', async () => {
  await manager.stop();
  await page.waitForSelector('#banner.down');
  assert.match(await text('#banner'), /No contact with the manager/);
  await shot(page, 'no-contact');
  assert.match(await text('#summary'), /27 hosts/);
  await manager.resume();
  await page.click('#banner button');
  await page.waitForSelector('#banner', { state: 'hidden' });
  page.faults = page.faults.filter((fault) => !/ERR_CONNECTION_REFUSED/.test(fault));
  assert.deepEqual(page.faults, []);
});
