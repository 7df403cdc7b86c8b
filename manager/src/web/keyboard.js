// The map by keyboard: arrows go to the next node that way, Enter opens it, N and P go through the troubled ones.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 60;

/** `calls`: pick(node, null, true), focus(node, links), open(node). */
export function bindKeyboard(view, calls) {
  const { canvas } = view;

  function focus(i) {
    view.focus = i;
    const node = view.scene.nodes[i];
    const [x, y] = [node.x * view.k + view.tx, node.y * view.k + view.ty];
    const { pad } = view;
    const outside = x < pad.l + 40 || x > view.w - pad.r - 40 || y < pad.t + 40 || y > view.h - pad.b - 40;
    if (outside) view.centre(node.x, node.y, view.k);
    calls.focus(node, view.adjacent[i]);
    view.ask();
  }

  function next([dx, dy]) {
    const { nodes } = view.scene;
    const from = nodes[view.focus ?? view.order[0]];
    let best = null;
    let least = Infinity;
    nodes.forEach((node, i) => {
      const ahead = (node.x - from.x) * dx + (node.y - from.y) * dy;
      const aside = Math.abs((node.x - from.x) * dy) + Math.abs((node.y - from.y) * dx);
      if (node === from || ahead <= 1 || ahead < aside * 0.7) return;
      const cost = ahead + 1.8 * aside;
      if (cost < least) [best, least] = [i, cost];
    });
    if (best != null) focus(best);
  }

  function troubled(step) {
    const { nodes } = view.scene;
    const list = view.order.filter((i) => nodes[i].health === 'down' || nodes[i].health === 'stale' || view.alarms.has(nodes[i].id));
    if (!list.length) return;
    const at = list.indexOf(view.focus);
    focus(list[at < 0 ? 0 : (at + step + list.length) % list.length]);
  }

  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !view.scene.nodes.length) return;
    const node = view.scene.nodes[view.focus];
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) {
      view.tx -= arrow[0] * STEP;
      view.ty -= arrow[1] * STEP;
      view.move();
    } else if (arrow) next(arrow);
    else if (event.key === 'n') troubled(1);
    else if (event.key === 'p') troubled(-1);
    else if ((event.key === 'Enter' || event.key === ' ') && node) calls.pick(node, null, true);
    else if (event.key === 'i' && node) calls.open(node);
    else if (event.key === '+' || event.key === '=') view.zoom(1.35, undefined, undefined, true);
    else if (event.key === '-') view.zoom(1 / 1.35, undefined, undefined, true);
    else if (event.key === '0') view.fit();
    else return;
    event.preventDefault();
  });

  canvas.addEventListener('focus', () => {
    if (!canvas.matches(':focus-visible') || view.focus != null || !view.scene.nodes.length) return;
    focus(view.index.get(view.selection?.around) ?? view.order[0]);
  });
  canvas.addEventListener('blur', () => {
    view.focus = null;
    view.ask();
  });
}
