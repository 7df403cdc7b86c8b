// Where the view stands over the scene: pan, zoom, fit, and what lies under a point of the screen.

import { distance } from './geometry.js';

const reduced = matchMedia('(prefers-reduced-motion: reduce)');
const MOVING_MS = 140;
const [ZOOM_MIN, ZOOM_MAX] = [0.04, 8];

/** A point (x, y) of the scene is at (x * k + tx, y * k + ty) of the screen. `ask()` asks for drawing. */
export class Camera {
  constructor() {
    Object.assign(this, { k: 1, tx: 0, ty: 0, w: 0, h: 0, dpr: 1, grid: new Map(), scene: { nodes: [], links: [], hulls: [] } });
    /** What panels cover at each side. */
    this.pad = { l: 0, r: 0, t: 0, b: 0 };
  }

  /** The view moves: a little later everything is drawn sharply again. */
  move() {
    this.moving = true;
    clearTimeout(this.stopping);
    this.stopping = setTimeout(() => {
      this.moving = false;
      this.ask();
    }, MOVING_MS);
    this.ask();
  }

  bounds() {
    const { nodes, hulls } = this.scene;
    const round = ({ x, y, r, orbit }) => [x - (orbit ?? r), y - (orbit ?? r) - 10, x + (orbit ?? r), y + (orbit ?? r) + 10];
    const boxes = [...nodes, ...hulls].map(round);
    if (!boxes.length) return null;
    return boxes.reduce((a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])]);
  }

  fit(animated = true, box = this.bounds()) {
    if (!box) return;
    this.wantsFit = !this.w;
    if (!this.w) return;
    const margin = this.w < 600 ? 18 : 44;
    const w = this.w - this.pad.l - this.pad.r - 2 * margin;
    const h = this.h - this.pad.t - this.pad.b - 2 * margin;
    const k = Math.max(ZOOM_MIN, Math.min(2.2, w / (box[2] - box[0]), h / (box[3] - box[1])));
    const x = this.pad.l + margin + w / 2 - (k * (box[0] + box[2])) / 2;
    const y = this.pad.t + margin + h / 2 - (k * (box[1] + box[3])) / 2;
    this.go(k, x, y, animated);
  }

  centre(x, y, k = Math.max(this.k, 1.3)) {
    const { pad } = this;
    this.go(k, pad.l + (this.w - pad.l - pad.r) / 2 - k * x, pad.t + (this.h - pad.t - pad.b) / 2 - k * y, true);
  }

  zoom(factor, x = this.w / 2, y = this.h / 2, animated = false) {
    const k = Math.min(ZOOM_MAX, Math.max(ZOOM_MIN, this.k * factor));
    const f = k / this.k;
    this.go(k, x - (x - this.tx) * f, y - (y - this.ty) * f, animated);
  }

  go(k, tx, ty, animated) {
    cancelAnimationFrame(this.gliding);
    const from = [this.k, this.tx, this.ty];
    const started = performance.now();
    const step = (time) => {
      const u = animated && !reduced.matches ? Math.min(1, Math.max(0, (time - started) / 260)) : 1;
      const e = u * u * (3 - 2 * u);
      [this.k, this.tx, this.ty] = [k, tx, ty].map((to, i) => from[i] + (to - from[i]) * e);
      this.move();
      if (u < 1) this.gliding = requestAnimationFrame(step);
    };
    step(started);
  }

  nodeAt(px, py, slop) {
    const [x, y] = [(px - this.tx) / this.k, (py - this.ty) / this.k];
    const reach = Math.max(30, (slop + 8) / this.k);
    let best = null;
    let least = slop / this.k;
    for (let gx = (x - reach) >> 6; gx <= (x + reach) >> 6; gx += 1) {
      for (let gy = (y - reach) >> 6; gy <= (y + reach) >> 6; gy += 1) {
        for (const i of this.grid.get(`${gx}:${gy}`) ?? []) {
          const node = this.scene.nodes[i];
          const d = Math.hypot(node.x - x, node.y - y) - node.r;
          if (d < least) [best, least] = [i, d];
        }
      }
    }
    return best;
  }

  linkAt(px, py, slop) {
    const { nodes, links } = this.scene;
    const [x, y] = [(px - this.tx) / this.k, (py - this.ty) / this.k];
    let best = null;
    let least = slop / this.k;
    for (const l of links) {
      const [a, b] = [nodes[l.s], nodes[l.t]];
      const m = least + Math.abs(l.off);
      if (x < Math.min(a.x, b.x) - m || x > Math.max(a.x, b.x) + m || y < Math.min(a.y, b.y) - m || y > Math.max(a.y, b.y) + m) continue;
      const d = distance(a, b, l.off, x, y);
      if (d < least) [best, least] = [l, d];
    }
    return best;
  }
}
