// Layers, states, health and site: what the map shows; the boxes are its legend too.

import { $, el } from './dom.js';
import { HEALTHS, LAYERS, STATES, glyph, sample } from './marks.js';
import { agentNamed, emit, on, state } from './state.js';

export function start() {
  boxes($('#layers'), LAYERS, state.filter.layers, (layer) => sample(layer.id));
  boxes($('#states'), STATES, state.filter.states, glyph);
  boxes($('#healths'), HEALTHS, state.filter.healths, glyph);
  $('#site').onchange = (event) => {
    state.filter.site = event.target.value;
    emit('filter');
  };
  $('#only').onchange = (event) => {
    const text = event.target.value.trim();
    const agent = agentNamed(text);
    event.target.setCustomValidity(text && !agent ? 'No host with an agent has this name.' : '');
    event.target.reportValidity();
    state.filter.agent = agent?.id ?? '';
    emit('filter');
  };
  $('#collapse').onchange = (event) => {
    state.collapsed = event.target.checked;
    emit('filter');
  };
  on('model', counts);
}

function boxes(fieldset, marks, chosen, icon) {
  for (const mark of marks) {
    const change = (event) => {
      if (event.target.checked) chosen.add(mark.id);
      else chosen.delete(mark.id);
      emit('filter');
    };
    const box = el('input', { type: 'checkbox', checked: chosen.has(mark.id), value: mark.id, onchange: change });
    const count = el('span', { class: 'c', id: `count-${fieldset.id}-${mark.id}` });
    fieldset.append(el('label', { class: 'opt', title: mark.text }, box, icon(mark), el('span', {}, mark.name), count));
  }
}

const tally = (list, key) => {
  const found = new Map();
  for (const item of list) found.set(item[key], (found.get(item[key]) ?? 0) + 1);
  return found;
};

function counts() {
  const { nodes, links, sites } = state.model;
  const fill = (id, marks, found) => {
    for (const mark of marks) $(`#count-${id}-${mark.id}`).textContent = found.get(mark.id) ?? 0;
  };
  fill('layers', LAYERS, tally(links, 'layer'));
  fill('states', STATES, tally(links, 'state'));
  fill('healths', HEALTHS, tally(nodes.filter((node) => node.kind !== 'manager'), 'health'));
  summary(nodes, links);
  const box = $('#site');
  const key = sites.map((site) => site.id).join(' ');
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(el('option', { value: '' }, 'All sites'), ...sites.map((site) => el('option', { value: site.id, selected: site.id === state.filter.site }, site.name)));
  box.disabled = sites.length === 0;
}

function summary(nodes, links) {
  const agents = nodes.filter((node) => node.kind === 'agent');
  const health = tally(agents, 'health');
  const bad = links.filter((l) => l.bad && l.look !== 'implied').length;
  const total = (count, word) => el('span', { class: 'tot' }, el('b', {}, String(count)), ` ${word}`);
  const marks = HEALTHS.filter((mark) => mark.rank >= 3 && health.get(mark.id));
  $('#summary').replaceChildren(
    total(agents.length, agents.length === 1 ? 'host' : 'hosts'),
    total(links.filter((l) => l.layer !== 'relay').length, 'links'),
    ...marks.map((mark) => el('span', { class: 'hb' }, glyph(mark), el('b', {}, String(health.get(mark.id))), ` ${mark.name.toLowerCase()}`)),
    ...(bad ? [el('span', { class: 'hb' }, glyph({ tone: 'down', glyph: '×' }), el('b', {}, String(bad)), ' bad links')] : []),
    ...(!bad && !marks.length && agents.length ? [el('span', { class: 'hb' }, glyph({ tone: 'ok', glyph: '✓' }), 'all well')] : []),
  );
}
