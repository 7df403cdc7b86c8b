// The map on a canvas. Lines are batched into few paths and kept as a picture while the view moves.
//
// Rasterisers without a GPU draw one-pixel lines of one large path fast, and wider ones very slowly: many lines are
// hairlines, and only small batches get width, stroked one by one.

import { Camera } from './camera.js';
import { outline, trace, traceHalf, along } from './geometry.js';
import { drawLabels } from './labels.js';
import { LAYER, STATE } from './marks.js';

const contrast = matchMedia('(prefers-contrast: more)');
const ORDER = ['stack', 'up', 'idle', 'implied', 'unknown', 'never', 'one_sided', 'stale', 'down'];
const BAD = new Set(['stale', 'down', 'one_sided', 'never']);
/** A batch with more lines than this is drawn as hairlines. */
const WIDE_MAX = 500;
/** Drawing lines longer than this (ms) is replaced by moving their picture while the view moves. */
const SLOW_MS = 9;

export class Renderer extends Camera {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.version = 0;
    Object.assign(this, { index: new Map(), linkById: new Map(), adjacent: [], batches: [], order: [] });
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
    if (this.hoverLink) this.strokeOne(c, this.hoverLink, this.colours.focus, 4);
    this.drawMarks(c);
    this.scene.nodes.forEach((node, i) => this.drawNode(c, node, i));
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
    this.paintLinks(c);
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

  paintLinks(c) {
    const { k, dpr, colours } = this;
    c.fillStyle = colours.bg;
    c.fillRect(0, 0, this.canvas.width, this.canvas.height);
    c.setTransform(k * dpr, 0, 0, k * dpr, this.tx * dpr, this.ty * dpr);
    c.lineCap = 'butt';
    c.setLineDash([]);
    const circles = [...this.scene.hulls, ...this.scene.nodes.filter((node) => node.orbit).map((node) => ({ ...node, r: node.orbit + 8 }))];
    for (const circle of circles) {
      c.beginPath();
      c.arc(circle.x, circle.y, circle.r, 0, 7);
      c.fillStyle = colours.hull;
      c.fill();
      c.lineWidth = 1 / k;
      c.strokeStyle = colours.hullLine;
      c.stroke();
    }
    const dim = this.lit || this.match ? 0.18 : 1;
    for (const batch of this.batches) this.strokeBatch(c, batch, dim);
    for (const l of this.lit ?? []) this.strokeLit(c, l);
    c.setLineDash([]);
    c.globalAlpha = 1;
  }

  strokeBatch(c, batch, dim) {
    const { k, dpr } = this;
    const { look, lines, width } = batch;
    c.strokeStyle = this.colourOf(look, batch.layer);
    c.globalAlpha = contrast.matches && dim === 1 ? 1 : this.alphaOf(batch) * dim;
    c.setLineDash(lines.length > 1200 ? [] : this.dashOf(look, batch.layer));
    const px = BAD.has(look) ? 2.1 + width : look === 'up' && !batch.far ? (dpr > 1 ? 1 : lines.length < 150 ? 1.4 : 1) : width ? 0.8 + width : 1 / dpr;
    if (px * dpr > 1.05 && lines.length <= WIDE_MAX) {
      c.lineWidth = px / k;
      batch.each ??= lines.map((line) => {
        const path = new Path2D();
        line(path);
        return path;
      });
      for (const path of batch.each) c.stroke(path);
    } else {
      c.lineWidth = 1 / (k * dpr);
      c.stroke(batch.path);
    }
  }

  strokeLit(c, l) {
    const [a, b] = [this.scene.nodes[l.s], this.scene.nodes[l.t]];
    const halves = l.halves ?? [l.look];
    c.globalAlpha = 1;
    c.lineWidth = (2.4 + (l.width ?? 0)) / this.k;
    halves.forEach((look, end) => {
      if (!look) return;
      const path = new Path2D();
      if (l.halves) traceHalf(path, a, b, l.off, end);
      else trace(path, a, b, l.off);
      c.strokeStyle = this.colourOf(look, l.layer);
      c.setLineDash(this.dashOf(look, l.layer));
      c.stroke(path);
    });
  }

  strokeOne(c, l, colour, width) {
    const path = new Path2D();
    trace(path, this.scene.nodes[l.s], this.scene.nodes[l.t], l.off);
    c.globalAlpha = 0.7;
    c.lineWidth = width / this.k;
    c.strokeStyle = colour;
    c.stroke(path);
    c.globalAlpha = 1;
  }

  colourOf(look, layer) {
    if (look === 'up' || look === 'idle') return this.colours[layer];
    if (look === 'stack') return this.colours.muted;
    return this.colours[look === 'implied' ? 'down' : STATE[look].tone];
  }

  dashOf(look, layer) {
    const dash = { implied: [2, 4], idle: [2, 3], never: [2, 5], unknown: [5, 5], stack: [] }[look] ?? LAYER[layer].dash;
    return dash.map((length) => length / this.k);
  }

  /** Healthy lines fade as they get many; bad ones stay. */
  alphaOf({ look, far, width }) {
    const share = (count, of) => count / (of + 1);
    if (look === 'up') return Math.max(0.08, Math.min(far ? (width ? 0.6 : 0.55) : 0.85, share(far ? (width ? 900 : 300) : 900, this.wellCount)));
    if (look === 'idle') return Math.max(0.1, Math.min(0.6, share(400, this.wellCount)));
    if (look === 'implied') return Math.min(0.6, 150 / this.badCount);
    if (look === 'unknown' || look === 'stack') return 0.6;
    return Math.max(0.25, Math.min(0.95, 220 / this.badCount));
  }

  /** The mark of its state on each bad line, unless there are too many: it is not told by colour alone. */
  drawMarks(c) {
    if (this.k < 0.45 || this.badCount > 400) return;
    const { nodes, links } = this.scene;
    const r = 6.5 / this.k;
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    c.font = `800 ${10 / this.k}px system-ui,sans-serif`;
    for (const l of links) {
      if (!BAD.has(l.look)) continue;
      const hidden = (this.near && !this.lit?.includes(l)) || this.match;
      const [x, y] = along(nodes[l.s], nodes[l.t], l.off, 0.5);
      c.globalAlpha = hidden ? 0.2 : 1;
      c.beginPath();
      c.arc(x, y, r, 0, 7);
      c.fillStyle = this.colourOf(l.look, l.layer);
      c.fill();
      c.fillStyle = this.colours.bg;
      c.fillText(STATE[l.look].glyph, x, y + 0.5 / this.k);
    }
    c.globalAlpha = 1;
  }

  drawNode(c, node, i) {
    const { k, colours } = this;
    const x = node.x * k + this.tx;
    const y = node.y * k + this.ty;
    const margin = 40 + node.r * k;
    if (x < -margin || x > this.w + margin || y < -margin || y > this.h + margin) return;
    const off = (this.near && !this.near.has(i)) || (this.match && !this.match.has(node.id));
    const r = Math.max(node.r, 2.4 / k);
    c.globalAlpha = off ? 0.28 : 1;
    if (node.parts) this.drawGroup(c, node);
    else {
      outline(c, node.shape, node.x, node.y, r);
      const hollow = node.health === 'none';
      c.fillStyle = hollow ? colours.bg : colours[node.health];
      c.fill();
      c.lineWidth = Math.min(1.6, 2.4 / k);
      c.strokeStyle = hollow ? colours.unknown : colours.bg;
      c.stroke();
      if (r * k > 4.2) this.drawGlyph(c, node, r);
    }
    const chosen = this.selection?.around === node.id;
    if (!chosen && this.focus !== i && this.hover !== i) return;
    c.globalAlpha = 1;
    c.beginPath();
    c.arc(node.x, node.y, r * (node.shape === 'lan' ? 1.9 : 1) + 5 / k, 0, 7);
    c.lineWidth = (chosen ? 3 : 2) / k;
    c.strokeStyle = this.focus === i || chosen ? colours.focus : colours.text;
    c.stroke();
  }

  drawGlyph(c, { x, y, health }, r) {
    if (health !== 'down' && health !== 'stale') return;
    const q = r * 0.42;
    c.strokeStyle = this.colours.bg;
    c.lineWidth = r * 0.28;
    c.lineCap = 'round';
    c.beginPath();
    if (health === 'down') {
      c.moveTo(x - q, y - q);
      c.lineTo(x + q, y + q);
      c.moveTo(x + q, y - q);
      c.lineTo(x - q, y + q);
    } else {
      c.moveTo(x, y - q * 1.25);
      c.lineTo(x, y + q * 0.2);
      c.moveTo(x, y + q * 1.1);
      c.lineTo(x, y + q * 1.12);
    }
    c.stroke();
    c.lineCap = 'butt';
  }

  /** A collapsed group: its ring shows the share of each health, the number its hosts. */
  drawGroup(c, node) {
    const { colours, k } = this;
    const r = Math.max(node.r, 10 / k);
    c.beginPath();
    c.arc(node.x, node.y, r, 0, 7);
    c.fillStyle = colours.bg;
    c.fill();
    const total = Object.values(node.parts).reduce((sum, count) => sum + count, 0);
    let angle = -Math.PI / 2;
    for (const health of ['down', 'stale', 'none', 'ok']) {
      const count = node.parts[health];
      if (!count) continue;
      const end = health === 'ok' ? Math.PI * 1.5 : angle + Math.PI * 2 * Math.max(count / total, 0.035);
      c.beginPath();
      c.arc(node.x, node.y, r * 0.84, angle, end);
      c.lineWidth = r * 0.3;
      c.strokeStyle = colours[health === 'none' ? 'unknown' : health];
      c.stroke();
      angle = end;
    }
    if (r * k <= 9) return;
    c.fillStyle = colours.text;
    c.font = `600 ${r * 0.62}px system-ui,sans-serif`;
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    c.fillText(node.count, node.x, node.y);
  }
}
