// Nodes, on a canvas.

import { outline } from './geometry.js';
import { disc } from './paint-path.js';

export function drawNode(view, c, node, i) {
  const { k, colours } = view;
  const x = node.x * k + view.tx;
  const y = node.y * k + view.ty;
  const margin = 40 + node.r * k;
  if (x < -margin || x > view.w + margin || y < -margin || y > view.h + margin) return;
  const off = (view.near && !view.near.has(i)) || (view.match && !view.match.has(node.id));
  const r = Math.max(node.r, 2.4 / k);
  c.globalAlpha = off ? 0.28 : 1;
  if (node.parts) drawGroup(view, c, node);
  else {
    outline(c, node.shape, node.x, node.y, r);
    const hollow = node.health === 'none';
    c.fillStyle = hollow ? colours.bg : colours[node.health];
    c.fill();
    c.lineWidth = Math.min(1.6, 2.4 / k);
    c.strokeStyle = hollow ? colours.unknown : colours.bg;
    c.stroke();
    if (r * k > 4.2) drawGlyph(view, c, node, r);
  }
  const alarm = view.alarms.get(node.id);
  if (alarm && (r * k > 4 || alarm.rank > 1)) {
    const reach = (node.shape === 'lan' ? r * 1.6 : r * 0.8) + 2 / k;
    disc(c, node.x + reach, node.y - r * 0.8 - 2 / k, 5.5 / k, colours[alarm.tone], alarm.glyph, colours.bg, k);
  }
  const chosen = view.selection?.around === node.id;
  if (!chosen && view.focus !== i && view.hover !== i) return;
  c.globalAlpha = 1;
  c.beginPath();
  c.arc(node.x, node.y, r * (node.shape === 'lan' ? 1.9 : 1) + 5 / k, 0, 7);
  c.lineWidth = (chosen ? 3 : 2) / k;
  c.strokeStyle = view.focus === i || chosen ? colours.focus : colours.text;
  c.stroke();
}

function drawGlyph(view, c, { x, y, health }, r) {
  if (health !== 'down' && health !== 'stale') return;
  const q = r * 0.42;
  c.strokeStyle = view.colours.bg;
  c.lineWidth = r * 0.28;
  c.lineCap = 'round';
  c.beginPath();
  if (health === 'down') {
    c.moveTo(x - q, y - q);
    c.lineTo(x + q, y + q);
    c.moveTo(x + q, y - q);
    c.lineTo(x - q, y + q);
  } else {
    c.moveTo(x, y - q * 1.25);
    c.lineTo(x, y + q * 0.2);
    c.moveTo(x, y + q * 1.1);
    c.lineTo(x, y + q * 1.12);
  }
  c.stroke();
  c.lineCap = 'butt';
}

/** A collapsed group: its ring shows the share of each health, the number its hosts. */
function drawGroup(view, c, node) {
  const { colours, k } = view;
  const r = Math.max(node.r, 10 / k);
  c.beginPath();
  c.arc(node.x, node.y, r, 0, 7);
  c.fillStyle = colours.bg;
  c.fill();
  const total = Object.values(node.parts).reduce((sum, count) => sum + count, 0);
  let angle = -Math.PI / 2;
  for (const health of ['down', 'stale', 'none', 'ok']) {
    const count = node.parts[health];
    if (!count) continue;
    const end = health === 'ok' ? Math.PI * 1.5 : angle + Math.PI * 2 * Math.max(count / total, 0.035);
    c.beginPath();
    c.arc(node.x, node.y, r * 0.84, angle, end);
    c.lineWidth = r * 0.3;
    c.strokeStyle = colours[health === 'none' ? 'unknown' : health];
    c.stroke();
    angle = end;
  }
  if (r * k <= 9) return;
  c.fillStyle = colours.text;
  c.font = `600 ${r * 0.62}px system-ui,sans-serif`;
  c.textAlign = 'center';
  c.textBaseline = 'middle';
  c.fillText(node.count, node.x, node.y);
}
