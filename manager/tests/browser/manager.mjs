// A real manager in a folder of its own.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const PSK = 'a preshared key for browser tests';
export const SECRET = 'an admin secret for browser tests';
export const READ_TOKEN = 'a read token for browser tests';

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

export class Manager {
  /** Starts one; `settings` are environment variables. */
  static async start(settings = {}) {
    const manager = new Manager();
    manager.folder = mkdtempSync(join(tmpdir(), 'kattila-browser-'));
    writeFileSync(join(manager.folder, 'psk'), PSK, { mode: 0o600 });
    writeFileSync(join(manager.folder, 'admin-secret'), SECRET, { mode: 0o600 });
    writeFileSync(join(manager.folder, 'read-token'), READ_TOKEN, { mode: 0o600 });
    manager.port = await freePort();
    manager.base = `http://127.0.0.1:${manager.port}`;
    manager.settings = settings;
    await manager.resume();
    return manager;
  }

  async resume() {
    const log = openSync(join(this.folder, 'log'), 'a');
    const program = resolve(process.env.MANAGER ?? '../../../target/debug/manager');
    const env = { PSK_FILE: 'psk', ADMIN_SECRET_FILE: 'admin-secret', MANAGER_LISTEN: `127.0.0.1:${this.port}`, ...this.settings };
    this.child = spawn(program, { cwd: this.folder, env, stdio: ['ignore', log, log] });
    for (let tries = 0; tries < 200; tries += 1) {
      try {
        await fetch(`${this.base}/status/healthcheck`);
        return;
      } catch {
        await new Promise((resolve) => { setTimeout(resolve, 50); });
      }
    }
    throw new Error(`the manager does not answer at ${this.base}`);
  }

  async stop() {
    if (!this.child) return;
    const gone = new Promise((resolve) => { this.child.once('exit', resolve); });
    const { child } = this;
    const started = Date.now();
    child.kill('SIGTERM');
    // An unoptimised manager may be long in the middle of something with a large map.
    const last = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await gone;
    clearTimeout(last);
    if (Date.now() - started > 5000) console.log(`# the manager took ${Math.round((Date.now() - started) / 1000)} s to stop (${child.signalCode ?? 'by itself'})`);
    this.child = null;
  }

  async remove() {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async get(path) {
    return (await fetch(`${this.base}/status/${path}`, { signal: AbortSignal.timeout(60_000) })).json();
  }

  /** Waits until the answer of `path` fits; asks again after `pause` ms. */
  async until(path, fits, seconds = 60, pause = 100) {
    for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
      const answer = await this.get(path);
      if (fits(answer)) return answer;
      await new Promise((resolve) => { setTimeout(resolve, pause); });
    }
    throw new Error(`${path} did not come to what was waited for`);
  }
}
