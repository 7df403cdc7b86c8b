// Rates as small charts: made of counters in successive reports. A counter that fell is a new beginning, never a rate.

import { el, rate, svg, span } from './dom.js';

const [W, H] = [320, 54];

/** `samples`: [{at, ...}], oldest first; `pick(sample)` gives [received, sent] bytes or nothing. */
export function rates(samples, pick) {
  const points = [];
  let before = null;
  for (const sample of samples) {
    const counts = pick(sample);
    if (counts && before && sample.at > before.at) {
      const seconds = (sample.at - before.at) / 1000;
      const [rx, tx] = [counts[0] - before.counts[0], counts[1] - before.counts[1]];
      if (rx >= 0 && tx >= 0) points.push({ at: sample.at, rx: rx / seconds, tx: tx / seconds });
      else points.push({ at: sample.at, gap: true });
    }
    before = counts ? { at: sample.at, counts } : null;
  }
  return points;
}

/** The chart of these rates, with its last values in words; `null` when there are fewer than two. */
export function chart(title, points) {
  const known = points.filter((point) => !point.gap);
  if (known.length < 2) return null;
  const [from, to] = [points[0].at, points[points.length - 1].at];
  const top = Math.max(1, ...known.flatMap((point) => [point.rx, point.tx]));
  const x = (at) => ((at - from) / (to - from || 1)) * W;
  const y = (value) => H - 2 - (value / top) * (H - 6);
  const line = (key) => {
    let path = '';
    let pen = 'M';
    for (const point of points) {
      if (point.gap) pen = 'M';
      else {
        path += `${pen}${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`;
        pen = 'L';
      }
    }
    return svg('path', { d: path, class: key });
  };
  const last = known[known.length - 1];
  const picture = svg('svg', { viewBox: `0 0 ${W} ${H}`, class: 'chart', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, line('rx'), line('tx'));
  return el('figure', { class: 'rates' },
    el('figcaption', {}, el('span', {}, title), el('span', { class: 'key rx' }, `in ${rate(last.rx)}`), el('span', { class: 'key tx' }, `out ${rate(last.tx)}`)),
    picture,
    el('small', {}, `last ${span((to - from) / 1000)}, up to ${rate(top)}`));
}
