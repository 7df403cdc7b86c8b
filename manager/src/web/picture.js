// The present map as SVG: what the canvas shows, whole, with its filters and colours.

import { along, outline } from './geometry.js';
import { HEALTH, LAYERS, STATE } from './marks.js';
import { BAD, colourOf, dashOf } from './paint-links.js';

const NS = 'http://www.w3.org/2000/svg';
const MARGIN = 40;
const SCALE = 2.5; // pixels a unit of the layout
const LABELS_MAX = 1500;
const LENGTH_MAX = 28;
const LEGEND = 24;
/** What XML 1.0 cannot hold; names come from reports. */
const UNFIT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const short = (text) => (text.length > LENGTH_MAX ? `${text.slice(0, LENGTH_MAX - 1)}…` : text);
const round = (number) => Math.round(number * 10) / 10;

/** The text of an SVG file of what `view` (renderer.js) shows; `title` stands above it. */
export function picture(view, title) {
  const [x0, y0, x1, y1] = view.bounds() ?? [0, 0, 100, 100];
  const [x, y] = [x0 - MARGIN, y0 - MARGIN - LEGEND];
  const [w, h] = [x1 - x0 + 2 * MARGIN, y1 - y0 + 2 * MARGIN + 2 * LEGEND].map(Math.ceil);
  const one = { colours: view.colours, k: 1 };
  const box = [x, y, w, h].map(round).join(' ');
  const svg = make('svg', { xmlns: NS, viewBox: box, width: w * SCALE, height: h * SCALE, 'font-family': 'system-ui, sans-serif', 'font-size': 5.5, role: 'img' });
  svg.append(
    make('title', {}, title),
    make('rect', { x: round(x), y: round(y), width: w, height: h, fill: view.colours.bg }),
    make('text', { x: round(x0 - MARGIN / 2), y: round(y0 - MARGIN), fill: view.colours.muted, 'font-size': 8 }, title),
    make('g', { fill: view.colours.hull, stroke: view.colours.hullLine }, ...view.scene.hulls.map((hull) => make('circle', { cx: round(hull.x), cy: round(hull.y), r: round(hull.r) }))),
    ...links(view, one),
    ...view.scene.nodes.flatMap((node) => shape(node, view.colours)),
    ...marks(view, one),
    make('g', { 'text-anchor': 'middle', fill: view.colours.text }, ...labels(view)),
    legend(view, round(x0 - MARGIN / 2), round(y1 + MARGIN)),
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}\n`;
}

function make(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (name !== 'xmlns') element.setAttribute(name, String(value));
  element.append(...children.map((child) => (typeof child === 'string' ? child.replace(UNFIT, '\ufffd') : child)));
  return element;
}

/** Takes what geometry.js draws on a canvas' path, as the data of an SVG path. */
class Pen {
  data = '';

  put(letter, ...numbers) { this.data += letter + numbers.map(round).join(' '); }
  beginPath() { this.data = ''; }
  moveTo(...point) { this.put('M', ...point); }
  lineTo(...point) { this.put('L', ...point); }
  quadraticCurveTo(...points) { this.put('Q', ...points); }
  closePath() { this.data += 'Z'; }
  arc(x, y, r) { this.put('M', x - r, y), this.put('a', r, r, 0, 1, 0, 2 * r, 0), this.put('a', r, r, 0, 1, 0, -2 * r, 0); }

  roundRect(x, y, w, h, r) {
    this.put('M', x + r, y), this.put('h', w - 2 * r), this.put('a', r, r, 0, 0, 1, r, r), this.put('v', h - 2 * r), this.put('a', r, r, 0, 0, 1, -r, r);
    this.put('h', 2 * r - w), this.put('a', r, r, 0, 0, 1, -r, -r), this.put('v', 2 * r - h), this.put('a', r, r, 0, 0, 1, r, -r), this.closePath();
  }
}

/** One path for all lines of a look, as on the canvas. */
function links(view, one) {
  return view.batches.map(({ look, layer, lines, width, far }) => {
    const pen = new Pen();
    for (const line of lines) line(pen);
    const bad = BAD.has(look);
    const dash = dashOf(one, look, layer).join(' ');
    return make('path', {
      d: pen.data, fill: 'none', stroke: colourOf(one, look, layer), 'stroke-width': bad ? 1.4 + width : far && !width ? 0.4 : 0.7 + width,
      ...(dash ? { 'stroke-dasharray': dash } : {}), opacity: bad || lines.length < 150 ? 0.9 : 0.45,
    });
  });
}

function shape(node, colours) {
  const pen = new Pen();
  outline(pen, node.shape, node.x, node.y, node.r);
  const hollow = node.health === 'none';
  const body = make('path', { d: pen.data, fill: hollow || node.parts ? colours.bg : colours[node.health], stroke: hollow ? colours.unknown : node.parts ? colours[node.health] : colours.bg, 'stroke-width': node.parts ? 3 : 1 });
  body.append(make('title', {}, node.label));
  const sign = node.parts ? String(node.count) : HEALTH[node.health].rank >= 3 ? HEALTH[node.health].glyph : '';
  return sign ? [body, make('text', { x: round(node.x), y: round(node.y + (node.parts ? 4 : 2.6)), 'text-anchor': 'middle', 'font-size': node.parts ? 11 : 7.5, 'font-weight': 700, fill: node.parts ? colours.text : colours.bg }, sign)] : [body];
}

function marks(view, one) {
  const { nodes, links: all } = view.scene;
  return all.filter((l) => BAD.has(l.look)).flatMap((l) => {
    const [cx, cy] = along(nodes[l.s], nodes[l.t], l.off, 0.5).map(round);
    return [
      make('circle', { cx, cy, r: 4, fill: colourOf(one, l.look, l.layer) }),
      make('text', { x: cx, y: cy + 2, 'text-anchor': 'middle', 'font-size': 6, 'font-weight': 800, fill: view.colours.bg }, STATE[l.look].glyph),
    ];
  });
}

function labels(view) {
  const { nodes, hulls } = view.scene;
  const least = nodes.length > LABELS_MAX ? 2 : 1; // LANs and external peers tell their name when pointed at
  const named = nodes.filter((node) => node.prio >= least);
  return [
    ...hulls.map((hull) => make('text', { x: round(hull.x), y: round(hull.y - hull.r - 5), 'font-weight': 600, 'font-size': 7 }, short(hull.label))),
    ...named.map((node) => make('text', { x: round(node.x), y: round(node.y + node.r + 6) }, short(node.label))),
  ];
}

function legend(view, x, y) {
  const shown = LAYERS.filter((layer) => view.scene.links.some((l) => l.layer === layer.id));
  return make('g', { fill: view.colours.muted }, ...shown.flatMap((layer, i) => [
    make('line', { x1: x + i * 70, y1: y, x2: x + i * 70 + 16, y2: y, stroke: view.colours[layer.id], 'stroke-width': 1.2, 'stroke-dasharray': layer.dash.join(' ') || 'none' }),
    make('text', { x: x + i * 70 + 20, y: y + 2 }, layer.name),
  ]));
}
