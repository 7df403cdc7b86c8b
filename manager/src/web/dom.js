// Elements and words. Text from reports only ever becomes text nodes: there is no markup from strings here.

export const $ = (selector) => document.querySelector(selector);

/** An element with attributes, listeners (`onclick`) and children; absent values are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Seconds in words: `12 s`, `4 min`, `1.5 h`, `3 d`. */
export function span(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return '–';
  const s = Math.max(0, seconds);
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  if (s < 86400) return `${(s / 3600).toFixed(s < 36000 ? 1 : 0)} h`;
  return `${Math.round(s / 86400)} d`;
}

/** How long before `now` a moment was (both ms). */
export const since = (moment, now) => (moment == null ? '–' : span((now - moment) / 1000));

export function bytes(count) {
  if (count == null) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const rate = (perSecond) => (perSecond == null ? '–' : `${bytes(perSecond)}/s`);

export function clock(moment, withDay = false) {
  const date = new Date(moment);
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
  return withDay ? `${date.toLocaleDateString([], { month: 'short', day: 'numeric' })} ${time}` : time;
}

/** A description list's rows; those without a value are left out. */
export function facts(...rows) {
  const shown = rows.filter(([, value]) => value != null && value !== '');
  return el('dl', {}, shown.map(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}

/** A table; numeric columns are named by their index. */
export function table(caption, head, rows, numeric = []) {
  const side = (index) => (numeric.includes(index) ? 'r' : null);
  return el(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    el('table', {},
      el('caption', { class: 'vh' }, caption),
      el('thead', {}, el('tr', {}, head.map((text, i) => el('th', { scope: 'col', class: side(i) }, text)))),
      el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, i) => el('td', { class: side(i) }, cell)))))),
  );
}

/** A short form of a long list with a button for the rest. */
export function capped(items, limit, render, what) {
  const box = el('div', {}, render(items.slice(0, limit)));
  if (items.length <= limit) return box;
  const more = el('button', { type: 'button', class: 'more', onclick: () => box.replaceChildren(render(items)) },
    `Show all ${items.length} ${what}`);
  return el('div', {}, box, el('div', {}, more));
}
