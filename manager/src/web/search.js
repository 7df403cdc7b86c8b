// The search box: hosts by name, address, id or site; arrows and Enter choose.

import { $, el } from './dom.js';
import { HEALTH, KINDS, glyph } from './marks.js';
import { view } from './map.js';
import { emit, select, state } from './state.js';

const HITS_MAX = 8;
let hits = [];
let current = -1;

export function start() {
  const box = $('#q');
  box.addEventListener('input', search);
  box.addEventListener('focus', () => box.value && search());
  box.addEventListener('blur', () => setTimeout(() => open(false), 120));
  box.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      if (hits.length) mark((current + (event.key === 'ArrowDown' ? 1 : -1) + hits.length) % hits.length);
    } else if (event.key === 'Enter' && hits.length) choose(Math.max(0, current));
    else if (event.key === 'Escape') {
      clear();
      box.blur();
      event.stopPropagation();
    }
  });
}

const words = (node) => `${node.name} ${node.id} ${node.groupName ?? ''} ${node.site ?? ''} ${node.addresses.join(' ')} ${KINDS[node.kind]}`.toLowerCase();

function search() {
  const text = $('#q').value.trim().toLowerCase();
  current = -1;
  $('#q').removeAttribute('aria-activedescendant');
  if (!text || !state.model) {
    view.setMatch(null);
    return open(false);
  }
  const found = state.model.nodes.filter((node) => words(node).includes(text));
  view.setMatch(new Set(found.map((node) => node.id)));
  found.sort((a, b) => (b.kind === 'agent') - (a.kind === 'agent') || (a.name < b.name ? -1 : 1));
  hits = found.slice(0, HITS_MAX);
  const option = (node, i) => {
    const take = (event) => {
      event.preventDefault();
      choose(i);
    };
    const address = node.addresses.find((known) => known.includes(text)) ?? node.groupName ?? KINDS[node.kind];
    return el('li', { role: 'option', id: `hit-${i}`, 'aria-selected': 'false', onpointerdown: take }, glyph(HEALTH[node.health]), el('span', {}, node.name), el('small', {}, address));
  };
  const none = el('li', { role: 'option', 'aria-disabled': 'true', 'aria-selected': 'false' }, `Nothing matches “${$('#q').value}”`);
  $('#hits').replaceChildren(...(hits.length ? hits.map(option) : [none]));
  return open(true);
}

function mark(i) {
  current = i;
  [...$('#hits').children].forEach((item, at) => item.setAttribute('aria-selected', String(at === i)));
  $('#q').setAttribute('aria-activedescendant', `hit-${i}`);
  $('#hits').children[i].scrollIntoView({ block: 'nearest' });
}

function choose(i) {
  const node = hits[i];
  clear();
  $('#q').blur();
  emit('page', 'map');
  select({ type: 'node', id: node.id }, { focus: true, zoom: true });
}

function clear() {
  $('#q').value = '';
  hits = [];
  view.setMatch(null);
  open(false);
}

function open(shown) {
  $('#hits').hidden = !shown;
  $('#q').setAttribute('aria-expanded', String(shown));
}
