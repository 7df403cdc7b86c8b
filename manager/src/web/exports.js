// The map as a file: what the canvas shows as SVG, and the manager's own exports. They are fetched and not linked,
// because a link would not carry the read token.

import { file } from './api.js';
import { $, el } from './dom.js';
import { view } from './map.js';
import { picture } from './picture.js';
import { shownAt, state } from './state.js';

/** The manager's own exports: name, title, path and name of the file; `past`: also of a past moment. */
const FILES = [
  { name: 'NetJSON', title: 'NetworkGraph, for netjsongraph.js and OpenWISP', path: 'export/netjson', file: 'kattila-netjson.json', past: true },
  { name: 'DOT', title: 'for Graphviz', path: 'export/dot', file: 'kattila.dot', past: true },
  { name: 'Mermaid', title: 'a flowchart for Markdown', path: 'export/mermaid', file: 'kattila.mmd', past: true },
  { name: 'Links CSV', title: 'every link as a table', path: 'export/links.csv', file: 'kattila-links.csv', past: true },
  { name: 'Agents CSV', title: 'every agent as a table', path: 'export/agents.csv', file: 'kattila-agents.csv' },
  { name: 'JSON', title: 'everything known, with figures and evidence', path: 'topology', file: 'kattila.json' },
];

export function start() {
  const button = (name, title, make) => el('button', { type: 'button', title, onclick: () => save(make) }, name);
  $('#exports .acts').replaceChildren(
    button('SVG', 'the map as it is shown', drawn),
    ...FILES.map((item) => button(item.name, item.title, async () => [await file(item.path + (item.past && state.at != null ? `?at=${state.at}` : '')), item.file])),
  );
}

function drawn() {
  const at = new Date(shownAt()).toISOString().slice(0, 16).replace('T', ' ');
  const agents = state.model.nodes.filter((node) => node.kind === 'agent').length;
  const title = `kattila.status, ${at} UTC: ${agents} hosts`;
  return [new Blob([picture(view, title)], { type: 'image/svg+xml' }), 'kattila.svg'];
}

async function save(make) {
  const error = $('#exports .error');
  error.textContent = '';
  try {
    const [blob, name] = await make();
    const url = URL.createObjectURL(blob);
    el('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (problem) {
    error.textContent = `${problem.message}. ${problem.hint ?? ''}`;
  }
}
