// Five real hosts in network namespaces with WireGuard, a manager and agents (`lab stage`); needs root.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** Why there can be no mesh here, or nothing. */
export const lacking = () => (process.getuid() === 0 ? null : 'namespaces need root');

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
