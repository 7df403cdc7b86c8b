// The page with many hosts: how long it takes, how it moves, what it weighs. Prints what it measured.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, shot } from './browser.mjs';
import { full, large } from './fleet.mjs';
import { Manager, PSK } from './manager.mjs';

let browser;
before(async () => { browser = await launch(); });
after(async () => browser?.close());

/** Milliseconds a frame while the map is dragged: median and worst. */
async function dragging(page) {
  const box = await page.locator('#canvas').boundingBox();
  const [x, y] = [box.x + 30, box.y + box.height - 30];
  await page.evaluate(() => {
    window.frames_ = [];
    let before = performance.now();
    const step = (now) => {
      window.frames_.push(now - before);
      before = now;
      window.counting = requestAnimationFrame(step);
    };
    window.counting = requestAnimationFrame(step);
  });
  await page.mouse.move(x, y);
  await page.mouse.down();
  for (let i = 0; i < 40; i += 1) await page.mouse.move(x + 6 * i, y - 4 * i);
  await page.mouse.up();
  const frames = await page.evaluate(() => {
    cancelAnimationFrame(window.counting);
    return window.frames_.sort((a, b) => a - b);
  });
  return { median: Math.round(frames[Math.floor(frames.length / 2)]), worst: Math.round(frames[frames.length - 1]) };
}

async function measure(name, make, { links, collapsed }) {
  const manager = await Manager.start();
  try {
    await make(manager.base).beat();
    await manager.until('topology?detail=brief', (map) => map.edges.filter((edge) => edge.layer === 'wireguard').length === links, 60);
    const page = await open(browser, manager.base);
    const told = await page.evaluate(async () => {
      const { layout } = await import('/web/layout.js');
      const { state } = await import('/web/state.js');
      const paint = performance.getEntriesByName('first-contentful-paint')[0];
      return { paint: Math.round(paint.startTime), settled: Math.round(performance.now()), layout: Math.round(layout.ms), nodes: state.model.nodes.length, links: state.model.links.length, collapsed: state.collapsed };
    });
    assert.equal(told.collapsed, collapsed);
    if (collapsed) await page.uncheck('#collapse');
    await page.waitForTimeout(1500);
    const frame = await dragging(page);
    const heap = await page.evaluate(() => Math.round(performance.memory.usedJSHeapSize / 1e6));
    await shot(page, name);
    console.log(`# ${name}: ${told.nodes} nodes, ${told.links} links; first paint ${told.paint} ms, settled ${told.settled} ms (layout ${told.layout} ms), frame while dragging ${frame.median} ms (worst ${frame.worst}), heap ${heap} MB`);
    assert.ok(told.settled < 15_000, 'it settles');
    assert.ok(frame.median < 100, 'it can be dragged');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  } finally {
    await manager.remove();
  }
}

test('1,000 nodes with 5,000 links', () => measure('large', (base) => large(base, PSK, { hosts: 1000, links: 5000, sites: 40 }), { links: 5000, collapsed: true }), { timeout: 90_000 });
test('a full mesh of 200 hosts', () => measure('full', (base) => full(base, PSK, 200), { links: 19_900, collapsed: false }), { timeout: 90_000 });
