// The way of a packet over the map: its hops numbered, each link with an arrow, and a cross where it stops.

import { along } from './geometry.js';

const R = 8;

/** `view.way`: `{nodes: hop by hop, links: the link after each hop or nothing, stopped}`. */
export function drawWay(view, c) {
  const { way, k, colours } = view;
  if (!way) return;
  c.globalAlpha = 1;
  way.links.forEach((id, i) => {
    const l = view.linkById.get(id);
    if (l) arrow(view, c, l, way.nodes[i]);
  });
  way.nodes.forEach((id, i) => {
    const node = view.scene.nodes[view.index.get(id)];
    if (!node) return;
    const stop = way.stopped && i === way.nodes.length - 1;
    const reach = node.r + 7 / k;
    disc(c, node.x - reach, node.y - reach, R / k, stop ? colours.down : colours.focus, stop ? '×' : String(i + 1), colours.bg, k);
  });
}

function arrow(view, c, l, from) {
  const { k, colours, scene: { nodes } } = view;
  const [a, b] = [nodes[l.s], nodes[l.t]];
  const forwards = (a.host ?? a.id) === from;
  const [x, y] = along(a, b, l.off, 0.5);
  const [tx, ty] = along(a, b, l.off, forwards ? 0.52 : 0.48);
  const angle = Math.atan2(ty - y, tx - x);
  const at = (turn, reach) => [x + (reach / k) * Math.cos(angle + turn), y + (reach / k) * Math.sin(angle + turn)];
  c.beginPath();
  c.moveTo(...at(0, 11));
  c.lineTo(...at(2.4, 9));
  c.lineTo(...at(-2.4, 9));
  c.closePath();
  c.fillStyle = colours.focus;
  c.strokeStyle = colours.bg;
  c.lineWidth = 2 / k;
  c.stroke();
  c.fill();
}

/** A round mark with a sign in it. */
export function disc(c, x, y, r, colour, sign, ink, k) {
  c.beginPath();
  c.arc(x, y, r, 0, 7);
  c.fillStyle = colour;
  c.fill();
  c.lineWidth = 1.5 / k;
  c.strokeStyle = ink;
  c.stroke();
  c.fillStyle = ink;
  c.font = `800 ${r * 1.4}px system-ui,sans-serif`;
  c.textAlign = 'center';
  c.textBaseline = 'middle';
  c.fillText(sign, x, y + r * 0.08);
}
