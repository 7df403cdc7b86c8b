// The map on a canvas. Lines are batched into few paths and kept as a picture while the view moves.

import { Camera } from './camera.js';
import { trace, traceHalf } from './geometry.js';
import { drawLabels } from './labels.js';
import { drawMarks, paintLinks, strokeOne } from './paint-links.js';
import { drawNode } from './paint-nodes.js';
import { drawWay } from './paint-path.js';

const ORDER = ['stack', 'up', 'idle', 'implied', 'unknown', 'never', 'one_sided', 'stale', 'down'];
/** Drawing lines longer than this (ms) is replaced by moving their picture while the view moves. */
const SLOW_MS = 9;

export class Renderer extends Camera {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.version = 0;
    Object.assign(this, { index: new Map(), linkById: new Map(), adjacent: [], batches: [], order: [] });
    // Firing alarms by the id of their node or link, and the way of a packet (paint-path.js).
    Object.assign(this, { alarms: new Map(), way: null });
    Object.assign(this, { colours: null, selection: null, near: null, lit: null, match: null, hover: null, hoverLink: null, focus: null });
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    if (!box.width) return;
    if (this.w) {
      this.tx += (box.width - this.w) / 2;
      this.ty += (box.height - this.h) / 2;
    }
    this.dpr = Math.min(2, devicePixelRatio || 1);
    [this.w, this.h] = [box.width, box.height];
    this.canvas.width = Math.round(box.width * this.dpr);
    this.canvas.height = Math.round(box.height * this.dpr);
    if (this.wantsFit) this.fit(false);
    this.draw();
  }

  setColours(colours) {
    this.colours = colours;
    this.changed();
  }

  setScene(scene) {
    this.scene = scene;
    this.index = new Map(scene.nodes.map((node, i) => [node.id, i]));
    this.linkById = new Map(scene.links.map((l) => [l.id, l]));
    this.grid = new Map();
    scene.nodes.forEach((node, i) => {
      const key = `${node.x >> 6}:${node.y >> 6}`;
      if (!this.grid.has(key)) this.grid.set(key, []);
      this.grid.get(key).push(i);
    });
    this.adjacent = scene.nodes.map(() => []);
    for (const l of scene.links) {
      this.adjacent[l.s].push(l);
      this.adjacent[l.t].push(l);
    }
    this.order = scene.nodes.map((_, i) => i).sort((a, b) => scene.nodes[b].prio - scene.nodes[a].prio);
    this.hover = this.hoverLink = null;
    if (this.focus != null && !scene.nodes[this.focus]) this.focus = null;
    this.batch();
    this.changed();
  }

  /** Lines of one look, layer and width go into one path. */
  batch() {
    const { nodes, links } = this.scene;
    const found = new Map();
    const add = (l, look, line) => {
      const faint = l.far && look === 'up';
      const key = `${ORDER.indexOf(look)}${faint ? 'a' : 'b'}|${l.layer}|${l.width ?? 0}`;
      if (!found.has(key)) found.set(key, { look, layer: l.layer, far: faint, width: l.width ?? 0, path: new Path2D(), lines: [] });
      const batch = found.get(key);
      line(batch.path);
      batch.lines.push(line);
    };
    for (const l of links) {
      const [a, b] = [nodes[l.s], nodes[l.t]];
      if (l.halves) {
        l.halves.forEach((look, end) => look && add(l, look, (path) => traceHalf(path, a, b, l.off, end)));
      } else add(l, l.look, (path) => trace(path, a, b, l.off));
    }
    this.batches = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, batch]) => batch);
    this.wellCount = links.filter((l) => l.look === 'up' || l.look === 'idle').length;
    this.badCount = links.length - this.wellCount;
  }

  /** Lights up a node with its links, a link, or `{ids, links}` of a path; dims the rest. */
  select(selection) {
    this.selection = selection;
    this.near = this.lit = null;
    if (selection) {
      this.near = new Set((selection.nodes ?? []).map((id) => this.index.get(id)).filter((i) => i != null));
      this.lit = (selection.links ?? []).map((id) => this.linkById.get(id)).filter(Boolean);
      if (selection.around != null) {
        this.near.add(this.index.get(selection.around));
        this.lit = [...new Set([...this.near].flatMap((i) => this.adjacent[i]))];
      }
      for (const l of this.lit) this.near.add(l.s).add(l.t);
    }
    this.changed();
  }

  setAlarms(alarms) {
    this.alarms = alarms;
    this.ask();
  }

  setMatch(ids) {
    this.match = ids;
    this.changed();
  }

  changed() {
    this.version += 1;
    this.ask();
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    if (!this.colours || !this.w) return;
    const c = this.context;
    this.drawLinks(c);
    c.setTransform(this.k * this.dpr, 0, 0, this.k * this.dpr, this.tx * this.dpr, this.ty * this.dpr);
    c.setLineDash([]);
    if (this.hoverLink) strokeOne(this, c, this.hoverLink, this.colours.focus, 4);
    drawMarks(this, c);
    this.scene.nodes.forEach((node, i) => drawNode(this, c, node, i));
    drawWay(this, c);
    c.setTransform(this.dpr, 0, 0, this.dpr, 0, 0);
    drawLabels(this, c);
  }

  drawLinks(c) {
    const { canvas, k, tx, ty, dpr } = this;
    const kept = this.kept;
    const same = kept && kept.version === this.version && kept.w === canvas.width && kept.h === canvas.height;
    const exact = same && kept.k === k && kept.tx === tx && kept.ty === ty;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.globalAlpha = 1;
    if (exact || (same && this.moving && this.linkMs > SLOW_MS)) {
      const zoom = k / kept.k;
      if (!exact) {
        c.fillStyle = this.colours.bg;
        c.fillRect(0, 0, kept.w, kept.h);
        c.imageSmoothingEnabled = zoom < 1;
      }
      c.drawImage(kept.canvas, (tx - kept.tx * zoom) * dpr, (ty - kept.ty * zoom) * dpr, kept.w * zoom, kept.h * zoom);
      return;
    }
    const started = performance.now();
    paintLinks(this, c);
    this.keepPicture();
    // Drawing may be put off: the time until the next frame is the honest cost.
    const mark = (this.mark = {});
    requestAnimationFrame(() => {
      if (this.mark === mark) this.linkMs = performance.now() - started;
    });
  }

  keepPicture() {
    const { width: w, height: h } = this.canvas;
    if (this.kept?.w !== w || this.kept?.h !== h) {
      const canvas = new OffscreenCanvas(w, h);
      this.kept = { canvas, context: canvas.getContext('2d', { alpha: false }) };
    }
    this.kept.context.drawImage(this.canvas, 0, 0);
    Object.assign(this.kept, { k: this.k, tx: this.tx, ty: this.ty, w, h, version: this.version });
  }
}
