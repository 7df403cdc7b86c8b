// The model through the filters -> what the renderer draws: nodes and lines with places. Pure.

import { HEALTH, STATE } from './marks.js';

const RADIUS = { host: 6, gateway: 7.5, relay: 7, external: 5, lan: 5.5, manager: 8, interface: 3.4 };

/**
 * `view` holds filter, collapsed, unfolded (interfaces by node id), focus (id of a node or null), path (an answer of
 * path or null); `places` is layout.js' `layout`.
 */
export function scene(model, places, view) {
  const shown = shownNodes(model, view);
  const nodes = [];
  const index = new Map(); // id of a node, or node/interface -> place in `nodes`
  const hulls = groupHulls(model, places, view, shown);
  if (view.collapsed) collapsedGroups(hulls, nodes, index);
  for (const node of model.nodes) {
    if (!shown.has(node.id) || index.has(node.id)) continue;
    addNode(node, places.xy.get(node.id) ?? [0, 0], nodes, index, view.collapsed ? null : view.unfolded.get(node.id));
  }
  const links = view.collapsed ? aggregated(model, index, view, nodes) : single(model, index, view);
  if (!view.collapsed) links.push(...stacking(model, index, view, shown));
  fan(links, view.collapsed);
  return { nodes, links, hulls: view.collapsed ? [] : hulls };
}

function shownNodes(model, { filter, focus }) {
  const around = [focus, filter.agent].filter((id) => model.byId.has(id)).map((id) => neighbourhood(model, id));
  const shown = new Set();
  for (const node of model.nodes) {
    if (!filter.healths.has(node.health)) continue;
    if (filter.site && node.group !== filter.site && node.kind !== 'manager') continue;
    if (around.some((near) => !near.has(node.id))) continue;
    if (node.kind === 'manager' && !filter.layers.has('relay')) continue;
    shown.add(node.id);
  }
  return shown;
}

/** A node with everything that it is linked to, reports to the manager left out. */
export function neighbourhood(model, id) {
  const near = new Set([id]);
  for (const l of model.links) {
    if (l.a === id) near.add(l.b);
    if (l.b === id) near.add(l.a);
  }
  return near;
}

function addNode(node, [x, y], nodes, index, interfaces) {
  index.set(node.id, nodes.length);
  const trouble = HEALTH[node.health].rank >= 3;
  const prio = node.health === 'down' ? 4 : trouble || node.kind === 'manager' ? 3 : node.role === 'gateway' || node.role === 'relay' ? 2 : node.kind === 'agent' ? 1 : 0;
  const r = RADIUS[node.role] ?? RADIUS.host;
  nodes.push({ id: node.id, x, y, r, shape: node.role, health: node.health, label: node.name, prio });
  if (!interfaces?.length) return;
  nodes[nodes.length - 1].orbit = orbit(interfaces.length);
  interfaces.forEach((item, i) => {
    const angle = (i / interfaces.length) * 2 * Math.PI - Math.PI / 2;
    const reach = orbit(interfaces.length);
    const id = `${node.id}/${item.name}`;
    index.set(id, nodes.length);
    const place = { x: x + reach * Math.cos(angle), y: y + reach * Math.sin(angle) };
    nodes.push({ id, host: node.id, interface: item.name, ...place, r: RADIUS.interface, shape: 'interface', health: item.up ? 'ok' : 'none', label: item.name, prio: 2 });
  });
}

const orbit = (count) => Math.max(20, count * 2.6);

function groupHulls(model, places, { filter }, shown) {
  const members = new Map();
  for (const node of model.nodes) if (node.group && shown.has(node.id)) (members.get(node.group) ?? members.set(node.group, []).get(node.group)).push(node);
  return places.hulls
    .filter((hull) => members.has(hull.id) && (!filter.site || filter.site === hull.id))
    .map((hull) => {
      const list = members.get(hull.id);
      const bad = list.filter((node) => HEALTH[node.health].rank >= 3);
      const worst = bad.some((node) => node.health === 'down') ? 'down' : 'stale';
      return { ...hull, members: list, bad: bad.length, worst, label: list[0].groupName };
    });
}

function collapsedGroups(hulls, nodes, index) {
  for (const hull of hulls) {
    const parts = { ok: 0, stale: 0, down: 0, none: 0 };
    for (const node of hull.members) {
      parts[node.health] += 1;
      index.set(node.id, nodes.length);
    }
    const trouble = [parts.down && `×${parts.down}`, parts.stale && `!${parts.stale}`].filter(Boolean).join(' ');
    const count = hull.members.filter((node) => node.kind === 'agent').length;
    nodes.push({
      id: `site:${hull.id}`, group: hull.id, x: hull.x, y: hull.y, r: 15 + Math.sqrt(count) * 3, shape: 'host',
      health: parts.down ? 'down' : parts.stale ? 'stale' : 'ok', label: trouble ? `${hull.label} ${trouble}` : hull.label, prio: 5, count, parts,
    });
  }
}

const wanted = (l, { filter }) => filter.layers.has(l.layer) && filter.states.has(l.state);

function single(model, index, view) {
  const links = [];
  for (const l of model.links) {
    if (!wanted(l, view)) continue;
    const s = index.get(`${l.a}/${l.ia}`) ?? index.get(l.a);
    const t = index.get(`${l.b}/${l.ib}`) ?? index.get(l.b);
    if (s == null || t == null) continue;
    const far = model.byId.get(l.a).group !== model.byId.get(l.b).group;
    links.push({ id: l.id, s, t, layer: l.layer, look: l.look, halves: l.halves, off: 0, far, source: l, label: l.ia ?? '' });
  }
  return links;
}

/** One line per layer between two collapsed groups. */
function aggregated(model, index, view, nodes) {
  const all = new Map();
  for (const l of model.links) {
    const [s, t] = [index.get(l.a), index.get(l.b)].sort((a, b) => a - b);
    if (!wanted(l, view) || s == null || t == null || s === t) continue;
    const key = `${s}-${t}-${l.layer}`;
    if (!all.has(key)) all.set(key, { id: `all:${nodes[s].id}:${nodes[t].id}:${l.layer}`, s, t, layer: l.layer, look: 'up', off: 0, far: true, count: 0, bad: 0, down: 0, source: l });
    const line = all.get(key);
    line.count += 1;
    if (STATE[l.state].rank >= 3) line.bad += 1;
    if (l.look === 'down') line.down += 1;
  }
  for (const line of all.values()) {
    line.width = Math.round(Math.min(4, Math.log2(line.count)));
    if (line.count === 1) line.look = line.source.look;
    else line.look = line.down * 2 > line.count ? 'down' : line.bad * 10 >= line.count && line.bad ? 'stale' : 'up';
    if (line.count > 1) {
      line.source = null;
      line.label = line.bad ? `${line.count}, ${line.bad} bad` : String(line.count);
    }
  }
  return [...all.values()];
}

/** What unfolded interfaces stand on: VLAN on parent, port in bridge, tunnel over its carrier. */
function stacking(model, index, view, shown) {
  const links = [];
  for (const [host, interfaces] of view.unfolded) {
    if (!shown.has(host) || !index.has(host)) continue;
    const names = new Map(interfaces.map((item) => [item.name, item]));
    for (const item of interfaces) {
      const here = index.get(`${host}/${item.name}`);
      const below = new Set([...(item.on ?? []), item.pair].filter((name) => name && names.has(name)));
      if (item.master && names.has(item.master) && !names.get(item.master).on?.includes(item.name)) below.add(item.master);
      for (const name of below) {
        const id = `stack:${host}:${item.name}:${name}`;
        links.push({ id, s: here, t: index.get(`${host}/${name}`), layer: 'physical', look: 'stack', off: 0, far: false, source: null, label: 'on' });
      }
      if (!below.size) links.push({ id: `stack:${host}:${item.name}`, s: here, t: index.get(host), layer: 'physical', look: 'stack', off: 0, far: false, source: null });
    }
  }
  return links;
}

/** Bends parallel links apart. */
function fan(links, collapsed) {
  const parallel = new Map();
  for (const l of links) {
    const key = Math.min(l.s, l.t) * 1e6 + Math.max(l.s, l.t);
    if (!parallel.has(key)) parallel.set(key, []);
    parallel.get(key).push(l);
  }
  const gap = collapsed ? 12 : 7;
  for (const group of parallel.values()) {
    if (group.length < 2) continue;
    group.forEach((l, i) => {
      l.off = (i - (group.length - 1) / 2) * gap * (l.s < l.t ? 1 : -1);
    });
  }
}
