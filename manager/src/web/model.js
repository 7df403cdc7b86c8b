// The manager's map -> what is drawn: nodes and links with their health, grouped by site.

import { HANDSHAKE, STATE } from './marks.js';

/**
 * `brief` is the answer of topology?detail=brief, `agentById` the agents as agents lists them, `before` the
 * model shown before.
 */
export function build(brief, agentById, before) {
  const links = [];
  const nodes = brief.nodes.map((node) => ({
    id: node.id,
    kind: node.kind,
    name: node.name || node.id,
    presence: node.presence,
    addresses: node.addresses ?? [],
    site: node.site ?? (keepsSite(node, brief) ? before?.byId.get(node.id)?.site ?? null : null),
    health: health(node, agentById.get(node.id)),
    role: node.kind === 'agent' ? 'host' : node.kind,
    degree: 0,
    bad: 0,
  }));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  for (const edge of brief.edges) links.push(link(edge, nodes));
  const known = brief.sites.length ? brief.sites : before?.known ?? [];
  roles(brief, known, byId, links);
  groups(nodes, byId, links, known);
  return { at: brief.at, nodes, links, byId, linkById: new Map(links.map((l) => [l.id, l])), sites: groupList(nodes), known, meshes: brief.meshes };
}

/** Past maps name no sites, and a silent host has not moved: their sites are those known before. */
const keepsSite = (node, brief) => node.presence === 'silent' || brief.sites.length === 0;

function health(node, agent) {
  if (node.kind === 'manager') return 'ok';
  if (node.kind !== 'agent') return 'none';
  if (node.presence === 'silent') return 'down';
  return agent?.presence === 'late' ? 'stale' : 'ok';
}

function link(edge, nodes) {
  const [a, b] = edge.ends.map((place) => nodes[place]);
  const [ia, ib] = edge.interfaces;
  a.degree += 1;
  b.degree += 1;
  const bad = STATE[edge.state].rank >= 3;
  if (bad) {
    a.bad += 1;
    b.bad += 1;
  }
  // Added to the answer's own objects: a copy of each would double what a large map weighs.
  return Object.assign(edge, { a: a.id, b: b.id, ia, ib, bad, look: look(edge, a, b), halves: halves(edge) });
}

/** How the line is drawn: its state, but for one that is down only because its host is. */
function look(edge, a, b) {
  return edge.state === 'down' && (a.health === 'down' || b.health === 'down') ? 'implied' : edge.state;
}

/** The looks of the two halves where they differ: a one-sided link has one half only. */
function halves(edge) {
  if (edge.relation === 'one_sided' || edge.state === 'one_sided') return edge.seen.map((seen) => (seen ? edge.state : null));
  const [a, b] = (edge.handshakes ?? []).map((handshake) => handshake && HANDSHAKE[handshake]);
  const differ = a && b && a !== b && STATE[edge.state].rank >= 3;
  return differ ? [a, b] : null;
}

function roles(brief, sites, byId, links) {
  const set = (id, role) => {
    const node = byId.get(id);
    if (node?.kind === 'agent') node.role = role;
  };
  for (const mesh of brief.meshes) for (const hub of mesh.hubs ?? []) set(hub, 'gateway');
  for (const site of sites) if (site.router) set(site.router, 'gateway');
  for (const l of links) if (l.relation === 'gateway') set(l.a, 'gateway');
  // The second end of a delivery is the manager or an agent that passes reports on.
  for (const l of links) if (l.layer === 'relay') set(l.b, 'relay');
}

/**
 * Hosts behind one address, or on one LAN, are drawn together; others stand alone. A LAN or an external peer whose
 * hosts are all of one group belongs to it. Nothing is guessed from subnets.
 */
function groups(nodes, byId, links, sites) {
  const lan = new Map();
  for (const l of links) {
    const far = byId.get(l.b);
    if (l.layer === 'physical' && far.kind === 'lan') lan.set(l.a, lan.get(l.a) ?? far);
  }
  const members = new Map();
  const siteOfLan = new Map();
  for (const node of nodes) if (node.site && lan.has(node.id)) siteOfLan.set(lan.get(node.id).id, node.site);
  const keyOf = (node) => {
    const segment = lan.get(node.id)?.id;
    return node.site ?? siteOfLan.get(segment) ?? segment ?? null;
  };
  for (const node of nodes) {
    const key = node.kind === 'agent' ? keyOf(node) : null;
    node.group = key;
    if (key) members.set(key, (members.get(key) ?? 0) + 1);
  }
  for (const node of nodes) if (node.group && members.get(node.group) < 2) node.group = null;
  const around = new Map();
  for (const l of links) {
    for (const [here, there] of [[l.a, l.b], [l.b, l.a]]) {
      const node = byId.get(here);
      if (node.kind !== 'lan' && node.kind !== 'external') continue;
      if (!around.has(here)) around.set(here, new Set());
      around.get(here).add(byId.get(there).group);
    }
  }
  for (const [id, found] of around) if (found.size === 1) byId.get(id).group = [...found][0];
  const gateways = new Map();
  for (const l of links) if (l.relation === 'gateway') gateways.set(l.b, byId.get(l.a).name);
  for (const { address, router } of sites) if (byId.has(router)) gateways.set(address, byId.get(router).name);
  const nameOf = (group) => {
    const lanOf = byId.get(group);
    if (gateways.has(group)) return `${lanOf ? 'LAN' : 'Site'} of ${gateways.get(group)}`;
    return lanOf?.name ?? group;
  };
  for (const node of nodes) node.groupName = node.group && nameOf(node.group);
}

function groupList(nodes) {
  const found = new Map();
  for (const node of nodes) if (node.group) found.set(node.group, node.groupName);
  return [...found].map(([id, name]) => ({ id, name })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What turned one map into another: `{what, type, id, name, text}`, the worst first. */
export function compare(before, after) {
  const found = [];
  const note = (type, id, name, text, rank) => found.push({ type, id, name, text, rank });
  for (const node of after.nodes) {
    const was = before.byId.get(node.id);
    if (!was) note('node', node.id, node.name, 'appeared', 2);
    else if (was.presence !== node.presence) note('node', node.id, node.name, node.presence === 'silent' ? 'fell silent' : 'reports again', 6);
    else if (was.name !== node.name) note('node', node.id, node.name, `renamed from ${was.name}`, 1);
  }
  for (const node of before.nodes) if (!after.byId.has(node.id)) note('node', node.id, node.name, 'vanished', 5);
  for (const l of after.links) {
    const was = before.linkById.get(l.id);
    const name = linkName(l, after);
    if (!was) note('link', l.id, name, `appeared, ${STATE[l.state].name.toLowerCase()}`, 2);
    else if (was.state !== l.state) note('link', l.id, name, `${STATE[was.state].name} → ${STATE[l.state].name}`, 3 + STATE[l.state].rank);
    else if (was.relation !== l.relation) note('link', l.id, name, `${was.relation} → ${l.relation}`.replaceAll('_', '-'), 1);
  }
  for (const l of before.links) if (!after.linkById.has(l.id)) note('link', l.id, linkName(l, before), 'vanished', 4);
  return found.sort((a, b) => b.rank - a.rank || (a.name < b.name ? -1 : 1));
}

export const linkName = (l, model) => `${model.byId.get(l.a).name} ⇄ ${model.byId.get(l.b).name}`;
