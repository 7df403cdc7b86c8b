// Names on the map, in screen space: the most important first, none over another.

const FONT = 'system-ui,sans-serif';
const LABELS_MAX = 160;
const LINK_LABELS_MAX = 60;
const LENGTH_MAX = 28;
/** Up to so many nodes no label may cover any of them; beyond, only none of the important ones. */
const CROWD = 150;

const short = (text) => (text.length > LENGTH_MAX ? `${text.slice(0, LENGTH_MAX - 1)}…` : text);

export function drawLabels(view, c) {
  const { nodes, hulls } = view.scene;
  const { k } = view;
  const boxes = [];
  const at = (node) => [node.x * k + view.tx, node.y * k + view.ty];
  const put = (text, x, y, font, colour, { force = false, inside = false } = {}) => {
    c.font = font;
    const w = c.measureText(text).width;
    const cx = inside ? Math.max(w / 2 + 6, Math.min(view.w - w / 2 - 6, x)) : x;
    if (cx + w / 2 < 0 || cx - w / 2 > view.w || y < 0 || y - 12 > view.h) return false;
    const box = [cx - w / 2 - 2, y - 11, w + 4, 14];
    if (!force && overlaps(boxes, box)) return false;
    boxes.push(box);
    c.lineWidth = 3.5;
    c.strokeStyle = view.colours.bg;
    c.strokeText(text, cx, y);
    c.fillStyle = colour;
    c.fillText(text, cx, y);
    return true;
  };
  c.globalAlpha = 1;
  c.textAlign = 'center';
  c.textBaseline = 'alphabetic';
  c.lineJoin = 'round';
  const radius = (node) => Math.max(node.r, 2.4 / k) * k;
  const chosen = [view.focus, view.hover, view.index.get(view.selection?.around)];
  for (const i of new Set(chosen)) {
    if (i == null || !nodes[i]) continue;
    const [x, y] = at(nodes[i]);
    put(short(nodes[i].label), x, y + radius(nodes[i]) + 17, `600 12.5px ${FONT}`, view.colours.text, { force: true });
  }
  for (const node of nodes) {
    if (node.prio < (nodes.length <= CROWD ? 0 : 2)) continue;
    const [x, y] = at(node);
    boxes.push([x - radius(node), y - radius(node), 2 * radius(node), 2 * radius(node)]);
  }
  for (const hull of hulls) hullLabel(view, c, hull, put, boxes);
  let left = LABELS_MAX;
  for (const i of view.order) {
    if (left <= 0) break;
    const node = nodes[i];
    if (!labelled(view, node, i) || chosen.includes(i)) continue;
    const [x, y] = at(node);
    const font = node.parts ? `600 12px ${FONT}` : node.interface ? `10px ${FONT}` : `11px ${FONT}`;
    const colour = node.prio >= 3 ? view.colours.text : view.colours.muted;
    const below = y + Math.max(radius(node), node.parts ? 10 : 0) + 13;
    if (put(short(node.label), x, below, font, colour, { inside: true })) left -= 1;
  }
  linkLabels(view, at, put);
}

const overlaps = (boxes, [x, y, w, h]) => boxes.some((b) => x < b[0] + b[2] && x + w > b[0] && y < b[1] + b[3] && y + h > b[1]);

function labelled(view, node, i) {
  const { k } = view;
  if ((view.near && !view.near.has(i)) || (view.match && !view.match.has(node.id))) return false;
  const x = node.x * k + view.tx;
  const y = node.y * k + view.ty;
  if (x < 0 || x > view.w || y < 0 || y > view.h) return false;
  if (node.interface) return k > 1.4;
  if (node.prio >= 3) return true;
  if (node.r * k < 3.2) return false;
  if (node.prio >= 2) return true;
  const small = view.scene.nodes.length <= 60 ? 0.6 : view.near?.has(i) ? 0.7 : 1.1;
  return k > (node.prio === 0 ? small + 0.9 : small);
}

function hullLabel(view, c, hull, put, boxes) {
  const { k, colours } = view;
  if (hull.r * k <= 16) return;
  const font = `600 12.5px ${FONT}`;
  c.font = font;
  const text = short(hull.label);
  const w = c.measureText(text).width;
  const badge = hull.bad ? 8 + 7.5 * String(hull.bad).length : 0;
  const full = w + (badge ? badge + 6 : 0);
  const [left, right] = [(hull.x - hull.r) * k + view.tx, (hull.x + hull.r) * k + view.tx];
  if (right < 0 || left > view.w) return;
  const x = Math.max(8 + full / 2, Math.min(view.w - 8 - full / 2, hull.x * k + view.tx)) - full / 2;
  const y = hull.y * k + view.ty - hull.r * k - 6;
  put(text, x + w / 2, y, font, hull.bad ? colours.text : colours.muted, { force: true });
  if (!badge) return;
  c.beginPath();
  c.roundRect(x + w + 6, y - 12, badge, 16, 8);
  c.fillStyle = colours[hull.worst];
  c.fill();
  c.fillStyle = colours.bg;
  c.font = `700 11.5px ${FONT}`;
  c.fillText(hull.bad, x + w + 6 + badge / 2, y);
  boxes.push([x + w + 4, y - 13, badge + 4, 18]);
}

function linkLabels(view, at, put) {
  if (!view.lit || view.k <= 0.75) return;
  const { nodes } = view.scene;
  for (const l of view.lit.slice(0, LINK_LABELS_MAX)) {
    if (!l.label || (l.layer === 'physical' && view.selection?.around)) continue;
    const whole = view.selection?.around == null;
    const t = whole ? 0.5 : nodes[l.s].id === view.selection.around ? 0.66 : 0.34;
    const [ax, ay] = at(nodes[l.s]);
    const [bx, by] = at(nodes[l.t]);
    put(l.label, ax + (bx - ax) * t, ay + (by - ay) * t + 4 - (whole ? 12 : 0), `10.5px ${FONT}`, view.colours.muted);
  }
}
