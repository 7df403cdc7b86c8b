// Everything known of an alarm: what is wrong, what says so, what to do; and an admin's word on it.

import { causeOf, choose, find, markOf, target } from './alarms.js';
import { clock, el, facts, since } from './dom.js';
import { heading } from './details.js';
import { glyph } from './marks.js';
import { acknowledge, silence } from './order.js';
import { managerNow, select, state } from './state.js';

export function alarmPanel(key, close) {
  const alarm = find(key);
  if (!alarm) return [heading('Alarm', close), el('p', { class: 'none' }, 'This alarm is over.')];
  const mark = markOf(alarm);
  return [
    heading(alarm.sentence, close, el('div', { class: `badge ${mark.tone}` }, glyph(mark), mark.name, el('span', {}, `${alarm.state} for ${since(alarm.since, managerNow())}`))),
    alarm.next_step ? el('p', { class: 'step' }, el('b', {}, 'Next: '), alarm.next_step) : null,
    actions(alarm),
    facts(
      ['Likely cause', alarm.cause],
      ['Covered by', coveredBy(alarm)],
      ['About', about(alarm)],
      ['First found', clock(alarm.found_at, true)],
      ['Fired', alarm.fired_at && clock(alarm.fired_at, true)],
      ['Acknowledged', alarm.acked_at && clock(alarm.acked_at, true)],
      ['Code', el('code', {}, alarm.code)],
      ['Subject', el('code', {}, alarm.subject)],
    ),
    el('h3', {}, 'Evidence ', el('span', {}, String(alarm.evidence.length))),
    el('ul', { class: 'plain evidence' }, alarm.evidence.map(proof)),
    ...history(alarm),
  ];
}

function actions(alarm) {
  const shows = target(alarm);
  const button = (key, text, onclick) => el('button', { type: 'button', 'data-key': key, onclick }, text);
  return el('div', { class: 'acts' },
    shows?.id ? button('show', 'Show details', () => select(shows, { focus: true, zoom: true })) : null,
    alarm.state === 'firing' ? button('ack', 'Acknowledge', () => acknowledge(alarm)) : null,
    alarm.state === 'resolved' ? null : button('silence', 'Silence…', () => silence(alarm)));
}

/** The agents that it concerns, each to be opened. */
function about(alarm) {
  const open = (id) => el('button', { type: 'button', class: 'link', 'data-key': `about ${id}`, onclick: () => select({ type: 'node', id }, { focus: true, zoom: true }) }, state.agentById.get(id)?.hostname || id.slice(0, 8));
  return alarm.agents.length ? alarm.agents.map(open) : null;
}

function proof({ agent, field, observed_at: at, text }) {
  const who = agent && (state.agentById.get(agent)?.hostname ?? agent.slice(0, 8));
  const age = at ? `${since(at, managerNow())} ago` : null;
  return el('li', {}, text, el('small', {}, field ? el('code', {}, field) : null, ` ${[who, age].filter(Boolean).join(', ')}`));
}

function coveredBy(alarm) {
  const cause = causeOf(alarm);
  if (!cause) return alarm.suppressed_by;
  return el('button', { type: 'button', class: 'link', 'data-key': 'cause', onclick: () => choose(cause) }, cause.sentence);
}

function history({ history: past }) {
  if (!past.length) return [];
  const item = ({ at, state: to, by }) => el('li', {}, `${to}${by ? `: ${by}` : ''}`, el('time', {}, clock(at, true)));
  return [el('h3', {}, 'Came and went ', el('span', {}, String(past.length))), el('ul', { class: 'plain times' }, past.map(item))];
}
