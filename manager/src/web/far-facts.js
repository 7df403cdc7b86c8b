// What is known of nodes without an agent: external peers and LANs by those that see them, and the manager by itself.

import { el, facts, since, span } from './dom.js';
import { HANDSHAKE, STATE, marked } from './marks.js';
import { managerNow } from './state.js';

export function farFacts(node, links, model, known) {
  if (node.kind === 'external') return external(node, links, model, known);
  if (node.kind === 'lan') return lan(node, links, model);
  return known.health ? manager(known.health) : facts(['Id', el('code', {}, node.id)]);
}

const nameOf = (model, id) => model.byId.get(id)?.name ?? id;

/** What each host that has it as a peer says. */
function external(node, links, model, known) {
  const said = (known.part?.edges ?? []).flatMap((edge) => edge.halves?.flatMap((half, i) => (half ? [{ half, by: nameOf(model, edge.ends[i].node), interface: edge.ends[i].interface }] : [])) ?? []);
  const all = (pick) => [...new Set(said.flatMap(({ half }) => pick(half) ?? []))].join(', ') || null;
  return facts(
    ['Public key', el('code', {}, all((half) => half.peer) ?? node.id.replace(/^ext:/, ''))],
    ['Seen at', all((half) => half.endpoint)],
    ['AllowedIPs', all((half) => half.allowed_ips)],
    ['Site', node.groupName],
    ['Known to', links.map((l) => nameOf(model, l.a === node.id ? l.b : l.a)).join(', ')],
    ...said.map(({ half, by, interface: name }) => [`Handshake with ${by}`, el('span', {}, marked(STATE[HANDSHAKE[half.handshake]] ?? STATE.unknown), ` ${half.handshake_age_s == null ? '' : span(half.handshake_age_s)}, ${name ?? ''}, as of ${since(half.observed_at, managerNow())} ago`)]),
    ['Agent', 'none: only its peers tell of it'],
  );
}

function lan(node, links, model) {
  const gateway = links.find((l) => l.relation === 'gateway');
  return facts(
    ['Gateway’s address', el('code', {}, node.id.replace(/^lan:/, '').split('@')[0])],
    ['Gateway', gateway && `${nameOf(model, gateway.a === node.id ? gateway.b : gateway.a)}, ${gateway.ia ?? gateway.ib ?? ''}`],
    ['Hosts with an agent', links.length],
    ['Site', node.groupName],
  );
}

function manager(health) {
  const counts = (found) => Object.entries(found).filter(([, count]) => count).map(([name, count]) => `${count} ${name.replaceAll('_', ' ')}`).join(', ');
  const { database } = health;
  return facts(
    ['State', marked(health.status === 'ok' ? STATE.up : STATE.down, health.status === 'ok' ? '' : ' failing')],
    ['Version', health.version],
    ['Up for', span(health.uptime_s)],
    ['Agents', counts(health.agents)],
    ['Last report', health.last_report_age_s == null ? 'none yet' : `${span(health.last_report_age_s)} ago`],
    ['Reports stored', `${health.reports_stored} since its start`],
    ['Refused', counts(health.refused) || 'nothing'],
    ['Database', database.writable ? `takes writes, last ${span(database.last_commit_age_s)} ago` : `takes none: ${database.failure}`],
    ['PSK', health.psk_failure ? `not read: ${health.psk_failure}` : 'read'],
  );
}
