// The pictures of README.md: `node pictures.mjs` writes docs/*.png from a made-up fleet on a real manager.

import { launch, open } from './browser.mjs';
import { small } from './fleet.mjs';
import { Manager, PSK } from './manager.mjs';

const DOCS = new URL('../../../docs/', import.meta.url).pathname;
const SIZE = { width: 1280, height: 800 };

const manager = await Manager.start();
const browser = await launch();
let beating;
try {
  const fleet = small(manager.base, PSK, 5, 'oulu-cam');
  fleet.lab.clock = 0;
  for (let i = 40; i >= 1; i -= 1) await fleet.beat(Date.now() - i * 30_000);
  await fleet.beat();
  beating = setInterval(() => fleet.beat().catch(() => {}), 5000);
  await new Promise((done) => { setTimeout(done, 20_000); }); // alarms wait for all to be heard
  fleet.tunnels.find((t) => t.a === fleet.routers[1] && t.b === fleet.routers[2]).broken = true;
  fleet.hosts.find((host) => host.name === 'paris-app2').silent = true;
  await manager.until('alarms', ({ alarms }) => alarms.some((alarm) => alarm.code === 'NO_FORWARD_PATH') && alarms.some((alarm) => alarm.code === 'AGENT_OFFLINE'), 120);

  const page = await open(browser, manager.base, { viewport: SIZE });
  await page.waitForTimeout(1500);
  await page.screenshot({ path: `${DOCS}map.png` });
  await page.locator('#alarms button', { hasText: 'NO_FORWARD_PATH' }).click();
  await page.waitForTimeout(1500);
  await page.screenshot({ path: `${DOCS}alarm.png` });

  const dark = await open(browser, manager.base, { viewport: SIZE, colorScheme: 'dark', hash: `#node=${fleet.routers[0].id}` });
  await dark.waitForSelector('#details .rates');
  await dark.waitForTimeout(1500);
  await dark.screenshot({ path: `${DOCS}dark.png` });

  const phone = await open(browser, manager.base, { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true });
  await phone.waitForTimeout(1000);
  await phone.screenshot({ path: `${DOCS}phone.png` });
} finally {
  clearInterval(beating);
  await browser.close();
  await manager.remove();
}
