// What the manager exports, in the programs that it is exported for: Mermaid and netjsongraph.js.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from './browser.mjs';
import { small } from './fleet.mjs';
import { Manager, PSK } from './manager.mjs';

const module = (path) => fileURLToPath(new URL(`node_modules/${path}`, import.meta.url));

let browser;
let manager;
let fleet;
before(async () => {
  browser = await launch();
  manager = await Manager.start();
  fleet = small(manager.base, PSK, 30);
  // Names that mean something to Mermaid, Markdown or HTML.
  fleet.host('"]; end %% #35; `**b**` --> {{', 1, { lan: 12 });
  fleet.tunnel(fleet.hosts.at(-1), fleet.routers[0]);
  await fleet.beat();
  const tunnels = fleet.tunnels.length;
  await manager.until('topology?detail=brief', (map) => map.edges.filter((edge) => edge.layer === 'wireguard').length >= tunnels);
});
after(async () => {
  await browser?.close();
  await manager?.remove();
});

const exported = async (path) => (await fetch(`${manager.base}/status/export/${path}`)).text();

/** An empty page whose errors are gathered. */
async function blank() {
  const page = await browser.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.stack));
  page.on('dialog', (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.setContent('<!doctype html><div id="place"></div>');
  return page;
}

test('Mermaid understands and draws the map', async () => {
  const text = await exported('mermaid?layer=wireguard');
  const graph = JSON.parse(await exported('netjson?layer=wireguard'));
  const page = await blank();
  await page.addScriptTag({ path: module('mermaid/dist/mermaid.min.js') });
  const drawn = await page.evaluate(async (diagram) => {
    window.mermaid.initialize({ startOnLoad: false, maxEdges: 10_000 });
    const kind = await window.mermaid.parse(diagram);
    const { svg } = await window.mermaid.render('map', diagram);
    document.querySelector('#place').innerHTML = svg;
    return {
      kind: kind.diagramType,
      names: [...document.querySelectorAll('#map .node')].map((node) => node.textContent.trim()),
      links: document.querySelectorAll('#map .edgePaths > *').length,
      images: document.querySelectorAll('#map img, #map script').length,
      bold: document.querySelectorAll('#map b, #map strong').length,
      hit: window.__hit,
    };
  }, text);
  assert.match(drawn.kind, /^flowchart/);
  assert.deepEqual(drawn.names.sort(), graph.nodes.map((node) => node.label).sort());
  assert.equal(drawn.links, graph.links.length);
  assert.deepEqual([drawn.images, drawn.bold, drawn.hit], [0, 0, undefined]);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('netjsongraph.js draws the NetworkGraph', async () => {
  const graph = JSON.parse(await exported('netjson'));
  const page = await blank();
  await page.route('**/graph.json', (route) => route.fulfill({ contentType: 'application/json', body: JSON.stringify(graph), headers: { 'Access-Control-Allow-Origin': '*' } }));
  await page.addScriptTag({ path: module('netjsongraph.js/lib/d3.min.js') });
  await page.addScriptTag({ path: module('netjsongraph.js/src/netjsongraph.js') });
  await page.evaluate(() => window.d3.netJsonGraph('http://graph.example/graph.json', { defaultStyle: false }));
  await page.waitForFunction((nodes) => document.querySelectorAll('circle.njg-node').length === nodes, graph.nodes.length);
  assert.equal(await page.evaluate(() => document.querySelectorAll('.njg-link').length), graph.links.length);
  const shown = await page.evaluate(() => document.body.textContent);
  for (const word of ['kattila', 'static']) assert.ok(shown.includes(word), shown);
  assert.deepEqual(page.faults, []);
  await page.close();
});
