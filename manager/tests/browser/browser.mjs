// Headless Chromium that tells of every error and of every request that leaves the manager.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

export const SHOTS = process.env.SHOTS ?? new URL('shots', import.meta.url).pathname;
mkdirSync(SHOTS, { recursive: true });

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // Without a GPU: the slowest way to draw, and the same everywhere.
  args: ['--no-sandbox', '--disable-gpu', '--enable-precise-memory-info', '--js-flags=--expose-gc'],
});

/** A page at `url`; what goes wrong in it is gathered in `page.faults`. */
export async function open(browser, base, { hash = '', ready = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && page.faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => page.faults.push(`error: ${error.stack}`));
  page.on('request', (request) => request.url().startsWith(base) || page.faults.push(`request to ${request.url()}`));
  page.on('dialog', (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(`${base}/${hash}`);
  if (ready) await page.waitForSelector('body[data-ready]', { timeout: 60_000 });
  return page;
}

export const shot = (page, name) => page.screenshot({ path: `${SHOTS}/${name}.png` });

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** No finding of axe that is serious or critical. */
export async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((runOnly) => window.axe.run(document, { runOnly }), RULES);
  const serious = violations.filter((found) => ['serious', 'critical'].includes(found.impact));
  const words = serious.map((found) => `${found.id}: ${found.nodes.map((node) => node.target.join(' ')).slice(0, 4).join(', ')}`);
  assert.deepEqual(words, [], where);
}

/** Where a node or the middle of a link is on the screen. */
export const placeOf = (page, id) => page.evaluate(async (wanted) => {
  const { view } = await import('/web/map.js');
  const box = view.canvas.getBoundingClientRect();
  const at = view.index.get(wanted);
  const l = view.linkById.get(wanted);
  const ends = at == null ? [view.scene.nodes[l.s], view.scene.nodes[l.t]] : [view.scene.nodes[at]];
  const x = ends.reduce((sum, node) => sum + node.x, 0) / ends.length;
  const y = ends.reduce((sum, node) => sum + node.y, 0) / ends.length;
  return { x: box.left + x * view.k + view.tx, y: box.top + y * view.k + view.ty };
}, id);

/** Waits until an async function in the page gives true: waitForFunction would take its promise for true. */
export async function eventually(page, check, argument, milliseconds = 30_000) {
  for (const end = Date.now() + milliseconds; Date.now() < end;) {
    if (await page.evaluate(check, argument)) return;
    await page.waitForTimeout(50);
  }
  throw new Error(`not within ${milliseconds} ms: ${check}`);
}
