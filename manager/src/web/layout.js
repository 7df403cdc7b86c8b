// Where nodes are: asked of the worker for those without a place, and remembered in the browser.

import { $ } from './dom.js';

const worker = new Worker(new URL('layout-worker.js', import.meta.url));
const waiting = new Map();
let sequence = 0;
worker.onmessage = ({ data }) => {
  waiting.get(data.seq)?.(data);
  waiting.delete(data.seq);
};

/** Places by node id, and the circles of groups. */
export const layout = { xy: new Map(), hulls: [], ms: 0, placed: 0 };
// Places of nodes that are gone are kept, as they may come back; but not without end.
const REMEMBERED_MAX = 20_000;

const isWide = () => {
  const box = $('#map').getBoundingClientRect();
  return box.width >= box.height;
};
const storageKey = () => `kattila.places.1.${isWide() ? 'wide' : 'tall'}`;

export function restore() {
  try {
    for (const [id, place] of Object.entries(JSON.parse(localStorage.getItem(storageKey()) ?? '{}'))) {
      if (Array.isArray(place) && place.every(Number.isFinite)) layout.xy.set(id, place);
    }
  } catch {
    // No storage, or nothing usable in it: everything is placed anew.
  }
}

export function save() {
  const places = [...layout.xy].slice(-REMEMBERED_MAX).map(([id, [x, y]]) => [id, [Math.round(x), Math.round(y)]]);
  try {
    localStorage.setItem(storageKey(), JSON.stringify(Object.fromEntries(places)));
  } catch {
    // Full or denied: the places last as long as the page.
  }
}

/** Gives every node of the model a place. Nodes that have one stay, unless `again` arranges everything anew. */
export async function arrange(model, again = false) {
  if (again) layout.xy.clear();
  const key = groupsKey(model);
  if (!again && key === layout.key && model.nodes.every((node) => layout.xy.has(node.id))) return;
  const nodes = [...model.nodes].sort((a, b) => (a.id < b.id ? -1 : 1));
  const rank = new Map(nodes.map((node, i) => [node.id, i]));
  const names = [...new Set(nodes.map((node) => node.group).filter(Boolean))].sort();
  const groupRank = new Map(names.map((name, i) => [name, i]));
  const groups = Int32Array.from(nodes, (node) => groupRank.get(node.group) ?? -1);
  const prev = new Float32Array(2 * nodes.length).fill(NaN);
  nodes.forEach((node, i) => {
    const place = layout.xy.get(node.id);
    if (place) prev.set(place, 2 * i);
  });
  const links = new Uint32Array(2 * model.links.length);
  // Reports to the manager say nothing of where hosts are: only relays pull.
  let used = 0;
  for (const l of [...model.links].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    if (l.layer === 'relay' && l.b === 'manager') continue;
    links[used] = rank.get(l.a);
    links[used + 1] = rank.get(l.b);
    used += 2;
  }
  const answer = await ask({ n: nodes.length, groups, links: links.slice(0, used), prev, aspect: isWide() ? 1.5 : 0.7 });
  nodes.forEach((node, i) => layout.xy.set(node.id, [answer.xy[2 * i], answer.xy[2 * i + 1]]));
  layout.hulls = answer.hulls.map((hull) => ({ ...hull, id: names[hull.group] }));
  layout.key = key;
  layout.ms = answer.ms;
  layout.placed = answer.placed;
  save();
}

function groupsKey(model) {
  return model.nodes.map((node) => `${node.id}@${node.group ?? ''}`).join(' ');
}

function ask(question) {
  sequence += 1;
  const seq = sequence;
  return new Promise((resolve) => {
    waiting.set(seq, resolve);
    worker.postMessage({ seq, ...question });
  });
}
