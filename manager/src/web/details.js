// The detail panel: what is selected, with everything known of it. Figures come from the manager when it is opened and
// at every poll; until they are there, the panel shows what the map knows.

import { get } from './api.js';
import { alarmPanel } from './alarm-panel.js';
import { alarmsOf } from './alarms.js';
import { $, clock, el } from './dom.js';
import { linkPanel } from './link-panel.js';
import { KINDS, glyph } from './marks.js';
import { nodePanel } from './node-panel.js';
import { emit, on, select, state } from './state.js';
import { words } from './time.js';

let shown = null; // key of the selection that the panel shows
let asking = null;

export function start() {
  on('selection', (options) => {
    open(options.focus);
    load();
  });
  on('model', () => {
    if (state.selection) render();
  });
  on('alarms', () => {
    if (state.selection) render();
  });
  on('polled', load);
}

const keyOf = (selection) => selection && `${selection.type} ${selection.id} ${selection.interface ?? ''} ${state.at ?? ''}`;
let known = { key: null };

function open(focus) {
  const panel = $('#details');
  panel.hidden = !state.selection;
  document.body.classList.toggle('selected', Boolean(state.selection));
  if (!state.selection) {
    shown = null;
    panel.replaceChildren();
    return;
  }
  if (known.key !== keyOf(state.selection)) known = { key: keyOf(state.selection) };
  render();
  if (focus) panel.focus();
}

/** Asks for the figures of what is selected. */
async function load() {
  const { selection } = state;
  asking?.abort();
  if (!selection || selection.type === 'alarm' || state.at != null) return;
  const key = keyOf(selection);
  const id = encodeURIComponent(selection.id);
  asking = new AbortController();
  const { signal } = asking;
  const ask = async (name, path) => {
    try {
      return { [name]: (await get(path, signal)).body };
    } catch (error) {
      return signal.aborted ? {} : { error };
    }
  };
  const node = state.model?.byId.get(selection.id);
  const questions = [ask('part', `topology?of=${id}`)];
  const agents = node?.kind === 'agent' ? [node.id] : linkAgents(selection);
  agents.forEach((agent, i) => questions.push(ask(i ? 'farRates' : 'rates', `agents/${agent}/rates`)));
  if (selection.type !== 'interface') questions.push(ask('history', `events?${node ? 'node' : 'edge'}=${id}&since=-1d`));
  if (node?.kind === 'manager') questions.push(ask('health', 'healthcheck'));
  if (node?.kind === 'agent') questions.push(ask('agent', `agents/${node.id}`));
  const answers = await Promise.all(questions);
  if (signal.aborted || keyOf(state.selection) !== key) return;
  known = Object.assign({ key }, ...answers);
  render();
}

function linkAgents(selection) {
  const l = state.model?.linkById.get(selection.id);
  return l ? [l.a, l.b].filter((id) => state.model.byId.get(id).kind === 'agent') : [];
}

function render() {
  const { selection, model } = state;
  if (!selection || !model) return;
  const panel = $('#details');
  const same = shown === known.key;
  const opened = new Set([...panel.querySelectorAll('details[open]')].map((item) => item.dataset.name));
  const place = same ? panel.scrollTop : 0;
  const focused = same && panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  panel.replaceChildren(...content(selection, model).filter(Boolean));
  for (const item of panel.querySelectorAll('details')) if (opened.has(item.dataset.name)) item.open = true;
  if (focused) panel.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  panel.scrollTop = place;
  shown = known.key;
}

function content(selection, model) {
  if (selection.type === 'alarm') return alarmPanel(selection.id, close());
  const alarms = alarmsOf(selection.id);
  const node = model.byId.get(selection.id);
  const link = model.linkById.get(selection.id);
  if (node) return nodePanel(node, model, known, { close: close(), alarms, interfaceName: selection.interface, unfold: () => emit('unfold', node) });
  if (link) return linkPanel(link, model, known, { close: close(), alarms });
  const what = selection.type === 'link' ? 'This link' : `This ${(KINDS[selection.type] ?? 'node').toLowerCase()}`;
  return [heading(what, close()), el('p', { class: 'none' }, state.at == null ? 'It is no longer on the map.' : 'It was not on the map at that moment.')];
}

const HISTORY_MAX = 12;

/** What happened to a node or link in the last day, newest first. */
export function history(known) {
  const events = known.history?.events;
  if (!events?.length) return [];
  const item = (event) => {
    const [, text, tone] = words(event);
    return el('li', {}, el('span', { class: 'hb' }, tone ? glyph(tone) : null, text), el('time', {}, clock(event.at, true)));
  };
  const last = events.slice(-HISTORY_MAX).reverse();
  return [el('h3', {}, 'Changes in the last day ', el('span', {}, String(events.length))), el('ul', { class: 'plain times' }, last.map(item))];
}

export const heading = (title, button, ...below) => el('header', {}, el('div', {}, el('h2', {}, title), below), button);

function close() {
  const leave = () => {
    select(null);
    $('#canvas').focus({ focusVisible: false });
  };
  return el('button', { type: 'button', class: 'icon', 'aria-label': 'Close details', 'data-key': 'close', onclick: leave }, '✕');
}
