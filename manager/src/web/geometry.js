// Lines of links: straight, or bent where several run in parallel; whole, or one half.

/** The control point of a link's curve; `a` and `b` are its ends' places. */
export function control(a, b, off) {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const d = Math.hypot(dx, dy) || 1;
  return [(a.x + b.x) / 2 - (dy / d) * off * 2, (a.y + b.y) / 2 + (dx / d) * off * 2];
}

/** The point at `t` (0 to 1) of the way from `a` to `b`. */
export function along(a, b, off, t) {
  const [cx, cy] = control(a, b, off);
  const u = 1 - t;
  return [u * u * a.x + 2 * u * t * cx + t * t * b.x, u * u * a.y + 2 * u * t * cy + t * t * b.y];
}

/** Adds a link's line to a path. */
export function trace(path, a, b, off) {
  path.moveTo(a.x, a.y);
  if (!off) return path.lineTo(b.x, b.y);
  const [cx, cy] = control(a, b, off);
  path.quadraticCurveTo(cx, cy, b.x, b.y);
}

/** Adds the half of a link's line at its end 0 or 1, up to a small gap in the middle. */
export function traceHalf(path, a, b, off, end) {
  const [from, to] = end === 0 ? [a, b] : [b, a];
  const bend = end === 0 ? off : -off;
  const [cx, cy] = control(from, to, bend);
  const t = 0.47;
  const [mx, my] = along(from, to, bend, t);
  path.moveTo(from.x, from.y);
  // De Casteljau: the control point of the part up to t lies at t between start and control point.
  if (bend) path.quadraticCurveTo(from.x + (cx - from.x) * t, from.y + (cy - from.y) * t, mx, my);
  else path.lineTo(mx, my);
  // A bar across its end says that it stops here.
  const d = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const [nx, ny] = [(-(to.y - from.y) / d) * 4, ((to.x - from.x) / d) * 4];
  path.moveTo(mx - nx, my - ny);
  path.lineTo(mx + nx, my + ny);
}

/** How far a point is from a link's line. */
export function distance(a, b, off, x, y) {
  const steps = off ? 10 : 1;
  let best = Infinity;
  let [ox, oy] = [a.x, a.y];
  for (let step = 1; step <= steps; step += 1) {
    const [nx, ny] = along(a, b, off, step / steps);
    const [dx, dy] = [nx - ox, ny - oy];
    const t = Math.max(0, Math.min(1, ((x - ox) * dx + (y - oy) * dy) / (dx * dx + dy * dy || 1)));
    best = Math.min(best, Math.hypot(x - ox - t * dx, y - oy - t * dy));
    [ox, oy] = [nx, ny];
  }
  return best;
}

/** The outline of a node by its role, around (0, 0) with radius `r`. */
export function outline(c, shape, x, y, r) {
  const corners = (count, turn, scale = 1.15) => {
    for (let i = 0; i < count; i += 1) {
      const angle = turn + (i * 2 * Math.PI) / count;
      const point = [x + r * scale * Math.cos(angle), y + r * scale * Math.sin(angle)];
      if (i === 0) c.moveTo(...point);
      else c.lineTo(...point);
    }
    c.closePath();
  };
  c.beginPath();
  if (shape === 'gateway') c.roundRect(x - r, y - r, 2 * r, 2 * r, r * 0.35);
  else if (shape === 'relay') corners(4, 0, 1.25);
  else if (shape === 'external') corners(6, Math.PI / 6);
  else if (shape === 'lan') c.roundRect(x - r * 1.9, y - r * 0.62, r * 3.8, r * 1.24, r * 0.62);
  else if (shape === 'manager') corners(5, -Math.PI / 2, 1.2);
  else if (shape === 'interface') c.roundRect(x - r, y - r, 2 * r, 2 * r, r * 0.8);
  else c.arc(x, y, r, 0, 7);
}
