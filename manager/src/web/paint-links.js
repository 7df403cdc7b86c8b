// Lines of links, on a canvas. Rasterisers without a GPU draw one-pixel lines of one large path fast, and wider ones very
// slowly: many lines are hairlines, and only small batches get width, stroked one by one.

import { along, trace, traceHalf } from './geometry.js';
import { LAYER, STATE } from './marks.js';
import { disc } from './paint-path.js';

const contrast = matchMedia('(prefers-contrast: more)');
export const BAD = new Set(['stale', 'down', 'one_sided', 'never']);
/** A batch with more lines than this is drawn as hairlines. */
const WIDE_MAX = 500;

/** Circles of groups, then all lines, those that are lit last. */
export function paintLinks(view, c) {
  const { k, dpr, colours } = view;
  c.fillStyle = colours.bg;
  c.fillRect(0, 0, view.canvas.width, view.canvas.height);
  c.setTransform(k * dpr, 0, 0, k * dpr, view.tx * dpr, view.ty * dpr);
  c.lineCap = 'butt';
  c.setLineDash([]);
  const circles = [...view.scene.hulls, ...view.scene.nodes.filter((node) => node.orbit).map((node) => ({ ...node, r: node.orbit + 8 }))];
  for (const circle of circles) {
    c.beginPath();
    c.arc(circle.x, circle.y, circle.r, 0, 7);
    c.fillStyle = colours.hull;
    c.fill();
    c.lineWidth = 1 / k;
    c.strokeStyle = colours.hullLine;
    c.stroke();
  }
  const dim = view.lit || view.match ? 0.18 : 1;
  for (const batch of view.batches) strokeBatch(view, c, batch, dim);
  for (const l of view.lit ?? []) strokeLit(view, c, l);
  c.setLineDash([]);
  c.globalAlpha = 1;
}

function strokeBatch(view, c, batch, dim) {
  const { k, dpr } = view;
  const { look, lines, width } = batch;
  c.strokeStyle = colourOf(view, look, batch.layer);
  c.globalAlpha = contrast.matches && dim === 1 ? 1 : alphaOf(view, batch) * dim;
  c.setLineDash(lines.length > 1200 ? [] : dashOf(view, look, batch.layer));
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

function strokeLit(view, c, l) {
  const [a, b] = [view.scene.nodes[l.s], view.scene.nodes[l.t]];
  const halves = l.halves ?? [l.look];
  c.globalAlpha = 1;
  c.lineWidth = (2.4 + (l.width ?? 0)) / view.k;
  halves.forEach((look, end) => {
    if (!look) return;
    const path = new Path2D();
    if (l.halves) traceHalf(path, a, b, l.off, end);
    else trace(path, a, b, l.off);
    c.strokeStyle = colourOf(view, look, l.layer);
    c.setLineDash(dashOf(view, look, l.layer));
    c.stroke(path);
  });
}

/** One line more, over what is drawn. */
export function strokeOne(view, c, l, colour, width) {
  const path = new Path2D();
  trace(path, view.scene.nodes[l.s], view.scene.nodes[l.t], l.off);
  c.globalAlpha = 0.7;
  c.lineWidth = width / view.k;
  c.strokeStyle = colour;
  c.stroke(path);
  c.globalAlpha = 1;
}

export function colourOf(view, look, layer) {
  if (look === 'up' || look === 'idle') return view.colours[layer];
  if (look === 'stack') return view.colours.muted;
  return view.colours[look === 'implied' ? 'down' : STATE[look].tone];
}

export function dashOf(view, look, layer) {
  const dash = { implied: [2, 4], stale: [9, 3], idle: [2, 3], never: [2, 5], unknown: [5, 5], stack: [] }[look] ?? LAYER[layer].dash;
  return dash.map((length) => length / view.k);
}

/** Healthy lines fade as they get many; bad ones stay. */
function alphaOf(view, { look, far, width }) {
  const share = (count, of) => count / (of + 1);
  if (look === 'up') return Math.max(0.08, Math.min(far ? (width ? 0.6 : 0.55) : 0.85, share(far ? (width ? 900 : 300) : 900, view.wellCount)));
  if (look === 'idle') return Math.max(0.1, Math.min(0.6, share(400, view.wellCount)));
  if (look === 'implied') return Math.min(0.6, 150 / view.badCount);
  if (look === 'unknown' || look === 'stack') return 0.6;
  return Math.max(0.25, Math.min(0.95, 220 / view.badCount));
}

/** The mark of its state on each bad line, and of an alarm on others, unless there are too many. */
export function drawMarks(view, c) {
  if (view.k < 0.45 || view.badCount > 400) return;
  const { nodes, links } = view.scene;
  for (const l of links) {
    const alarm = view.alarms.get(l.id);
    if (!BAD.has(l.look) && !alarm) continue;
    const hidden = (view.near && !view.lit?.includes(l)) || view.match;
    const [x, y] = along(nodes[l.s], nodes[l.t], l.off, 0.5);
    c.globalAlpha = hidden ? 0.2 : 1;
    const [colour, sign] = BAD.has(l.look) ? [colourOf(view, l.look, l.layer), STATE[l.look].glyph] : [view.colours[alarm.tone], alarm.glyph];
    disc(c, x, y, 7 / view.k, colour, sign, view.colours.bg, view.k);
  }
  c.globalAlpha = 1;
}
