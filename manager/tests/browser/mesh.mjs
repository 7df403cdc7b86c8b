// Five real hosts in network namespaces with WireGuard, a manager and agents (`lab stage`); needs root.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const TOOLS = ['ip', 'wg', 'wireguard-go', 'nft', 'nsenter', 'unshare'];
const isThere = (tool) => `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`.split(':').some((folder) => existsSync(join(folder, tool)));

/** Why there can be no mesh here, or nothing. */
export function lacking() {
  if (process.getuid() !== 0) return 'namespaces need root';
  const missing = TOOLS.filter((tool) => !isThere(tool));
  return missing.length ? `no ${missing.join(', ')} (scripts/test-deps.sh installs them)` : null;
}

export class Mesh {
  /** Comes up and waits for all agents. */
  static async start() {
    const mesh = new Mesh();
    const program = resolve(process.env.LAB ?? '../../../target/debug/lab');
    mesh.child = spawn(program, ['stage'], { stdio: ['pipe', 'pipe', 'inherit'] });
    mesh.lines = createInterface({ input: mesh.child.stdout })[Symbol.asyncIterator]();
    const { value } = await mesh.lines.next();
    if (!value) throw new Error('lab stage ended before the mesh was up');
    const told = JSON.parse(value);
    mesh.base = told.manager;
    mesh.secret = readFileSync(told.admin_secret, 'utf8').trim();
    return mesh;
  }

  /** Gives a command to the stage (lab/src/demo.rs); its answer is `ok`. */
  async order(line) {
    this.child.stdin.write(`${line}\n`);
    const { value } = await this.lines.next();
    if (value !== 'ok') throw new Error(`${line}: ${value}`);
  }

  /** Runs a shell script on a host. */
  run(host, script) {
    return this.order(`run ${host} ${script}`);
  }

  async remove() {
    const gone = new Promise((done) => { this.child.once('exit', done); });
    this.child.stdin.end();
    await gone;
  }
}
