// Places nodes: groups (sites, LANs) and single nodes first, then each group's members around its centre.
// Deterministic and incremental: what has a place keeps it. A classic worker, so that the library's files are used as
// they are published.
//
// in:  {seq, n, groups: Int32Array(n) (-1: alone), links: Uint32Array(2m), prev: Float32Array(2n) (NaN: no place), aspect}
// out: {seq, xy: Float32Array(2n), hulls: [{group, x, y, r}], placed, ms}
/* global importScripts, d3 */
importScripts('vendor/d3-dispatch.min.js', 'vendor/d3-quadtree.min.js', 'vendor/d3-timer.min.js', 'vendor/d3-force.min.js');

const FEW = 60; // so many nodes have more room
let gap = 13; // radius that each member of a group keeps free
let alone = 16; // the same for a node that stands alone
const GOLDEN = 2.399963; // radians: spreads places of a spiral evenly

onmessage = ({ data }) => {
  const started = performance.now();
  const { seq, n, groups, links, prev, aspect } = data;
  [gap, alone] = n <= FEW ? [19, 26] : [13, 16];
  const nodes = Array.from({ length: n }, (_, i) => ({ i, group: groups[i], degree: 0, x: prev[2 * i], y: prev[2 * i + 1] }));
  const members = [];
  for (const node of nodes) if (node.group >= 0) (members[node.group] ??= []).push(node);
  const { between, within } = springs(nodes, links);
  const bodies = placeBodies(nodes, members, between, aspect);
  let placed = 0;
  members.forEach((list, group) => {
    placed += placeMembers(list, bodies.of(group), within.get(group) ?? [], n);
  });
  const xy = new Float32Array(2 * n);
  for (const node of nodes) {
    xy[2 * node.i] = node.x;
    xy[2 * node.i + 1] = node.y;
  }
  postMessage({ seq, xy, hulls: members.map(hull).filter(Boolean), placed, ms: performance.now() - started }, [xy.buffer]);
};

const known = (node) => Number.isFinite(node.x) && Number.isFinite(node.y);
/** The body that a node moves with: its group's, or its own. */
const bodyKey = (node) => (node.group >= 0 ? `g${node.group}` : `n${node.i}`);

/** One spring per pair, however many links run in parallel. */
function springs(nodes, links) {
  const between = new Map();
  const within = new Map();
  const seen = new Set();
  for (let i = 0; i < links.length; i += 2) {
    const a = nodes[links[i]];
    const b = nodes[links[i + 1]];
    if (a === b) continue;
    a.degree += 1;
    b.degree += 1;
    if (a.group >= 0 && a.group === b.group) {
      const key = Math.min(a.i, b.i) * nodes.length + Math.max(a.i, b.i);
      if (seen.has(key)) continue;
      seen.add(key);
      if (!within.has(a.group)) within.set(a.group, []);
      within.get(a.group).push([a, b]);
    } else {
      const [p, q] = [bodyKey(a), bodyKey(b)].sort();
      const pair = between.get(`${p} ${q}`);
      if (pair) pair.weight += 1;
      else between.set(`${p} ${q}`, { p, q, weight: 1 });
    }
  }
  return { between: [...between.values()], within };
}

function placeBodies(nodes, members, between, aspect) {
  const bodies = new Map();
  members.forEach((list, group) => bodies.set(`g${group}`, groupBody(list)));
  for (const node of nodes) {
    if (node.group >= 0) continue;
    const body = { r: alone, single: true, node };
    if (known(node)) Object.assign(body, { x: node.x, y: node.y, fx: node.x, fy: node.y });
    bodies.set(bodyKey(node), body);
  }
  const list = [...bodies.values()];
  if (list.some((body) => body.fx === undefined)) {
    const pairs = between.map(({ p, q, weight }) => ({ source: bodies.get(p), target: bodies.get(q), weight }));
    beginNearNeighbours(list, pairs);
    settle(list, pairs, aspect);
  }
  for (const body of list) {
    body.x ||= 0;
    body.y ||= 0;
    if (body.single) Object.assign(body.node, { x: body.x, y: body.y });
  }
  return { of: (group) => bodies.get(`g${group}`) };
}

function groupBody(list) {
  const body = { r: gap * 1.18 * Math.sqrt(list.length) + 16 };
  const fixed = list.filter(known);
  if (fixed.length) {
    body.x = body.fx = fixed.reduce((sum, node) => sum + node.x, 0) / fixed.length;
    body.y = body.fy = fixed.reduce((sum, node) => sum + node.y, 0) / fixed.length;
    body.r = Math.max(body.r, ...fixed.map((node) => Math.hypot(node.x - body.x, node.y - body.y) + gap));
  }
  return body;
}

/** A newcomer starts beside those that it is linked to. */
function beginNearNeighbours(list, pairs) {
  for (const { source, target } of pairs) {
    for (const [body, other] of [[source, target], [target, source]]) {
      if (body.x === undefined && other.fx !== undefined) {
        body.x = other.fx + body.r + other.r;
        body.y = other.fy + body.r;
      }
    }
  }
}

function settle(list, pairs, aspect) {
  const degree = new Map();
  for (const { source, target } of pairs) for (const body of [source, target]) degree.set(body, (degree.get(body) ?? 0) + 1);
  const least = (pair) => Math.min(degree.get(pair.source), degree.get(pair.target));
  const dense = Math.min(1, list.length / (2 * pairs.length + 1) * 3);
  const length = (pair) => pair.source.r + pair.target.r + (pair.source.single && pair.target.single ? 26 : 46);
  d3.forceSimulation(list)
    .force('link', d3.forceLink(pairs).distance(length).strength((pair) => (0.7 * dense * Math.min(2, Math.log2(1 + pair.weight))) / least(pair)))
    .force('repel', d3.forceManyBody().strength((body) => (body.single ? -170 : -10 * body.r)).distanceMax(900))
    .force('x', d3.forceX().strength(0.05 / aspect))
    .force('y', d3.forceY().strength(0.05 * aspect))
    .force('apart', d3.forceCollide((body) => body.r + (body.single ? 4 : 26)).iterations(2))
    .stop()
    .tick(list.length > 1500 || pairs.length > 5000 ? 120 : list.length > 300 ? 200 : 320);
}

/** Places a group's newcomers around its centre; the others are pinned. Returns how many were placed. */
function placeMembers(list, centre, pairs, n) {
  const fresh = list.filter((node) => !known(node)).sort((a, b) => b.degree - a.degree || a.i - b.i);
  if (!fresh.length) return 0;
  for (const node of list) if (known(node)) Object.assign(node, { fx: node.x, fy: node.y });
  fresh.forEach((node, j) => {
    const place = list.length - fresh.length + j;
    const radius = gap * 1.25 * Math.sqrt(place);
    node.x = centre.x + radius * Math.cos(place * GOLDEN);
    node.y = centre.y + radius * Math.sin(place * GOLDEN);
  });
  const ticks = n > 1500 ? 70 : 130;
  const weak = (link) => 0.35 / Math.sqrt(Math.min(link.source.degree, link.target.degree) || 1) / Math.sqrt(list.length);
  d3.forceSimulation(list)
    .force('link', d3.forceLink(pairs.map(([source, target]) => ({ source, target }))).distance(gap * 2.4).strength(weak))
    .force('x', d3.forceX(centre.x).strength(0.06))
    .force('y', d3.forceY(centre.y).strength(0.06))
    .force('apart', d3.forceCollide(gap).strength(1).iterations(2))
    .alpha(0.6)
    .alphaDecay(1 - Math.pow(0.001, 1 / ticks))
    .stop()
    .tick(ticks);
  return fresh.length;
}

function hull(list, group) {
  const x = list.reduce((sum, node) => sum + node.x, 0) / list.length;
  const y = list.reduce((sum, node) => sum + node.y, 0) / list.length;
  return { group, x, y, r: Math.max(20, ...list.map((node) => Math.hypot(node.x - x, node.y - y))) + gap + 3 };
}
