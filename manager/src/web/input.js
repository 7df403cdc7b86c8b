// Mouse, pen and fingers on the map: pan, zoom, pick, drag, pinch.

const SLOP = { mouse: 5, pen: 8, touch: 14 };

/** `calls`: pick(node, link), hover(node, link, point), drag(index, x, y), drop(), open(node). */
export function bindPointer(view, calls) {
  const { canvas } = view;
  const pointers = new Map();
  let press = null;
  let hovering = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const slop = (event) => SLOP[event.pointerType] ?? SLOP.mouse;

  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    const point = place(event);
    pointers.set(event.pointerId, point);
    if (pointers.size > 1) {
      if (press) press.moved = true;
      return;
    }
    const touch = event.pointerType === 'touch';
    const grabs = event.button === 0 && !event.shiftKey && !touch;
    press = { point, touch, moved: false, node: grabs ? view.nodeAt(...point, 3) : null };
  });

  canvas.addEventListener('pointermove', (event) => {
    const point = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) return hover(point);
    if (pointers.size === 2) pinch(event.pointerId, before, point);
    else if (press) dragOrPan(before, point);
    pointers.set(event.pointerId, point);
  });

  function pinch(id, before, point) {
    const other = [...pointers].find(([key]) => key !== id)[1];
    const was = Math.hypot(before[0] - other[0], before[1] - other[1]) || 1;
    const is = Math.hypot(point[0] - other[0], point[1] - other[1]);
    view.tx += (point[0] - before[0]) / 2;
    view.ty += (point[1] - before[1]) / 2;
    view.zoom(is / was, (point[0] + other[0]) / 2, (point[1] + other[1]) / 2);
  }

  function dragOrPan(before, point) {
    const far = Math.hypot(point[0] - press.point[0], point[1] - press.point[1]);
    if (!press.moved && far <= (press.touch ? 8 : 4)) return;
    press.moved = true;
    if (press.node != null) return calls.drag(press.node, (point[0] - view.tx) / view.k, (point[1] - view.ty) / view.k);
    view.tx += point[0] - before[0];
    view.ty += point[1] - before[1];
    view.move();
  }

  const release = (event) => {
    const point = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (!point || !press || pointers.size) return;
    const done = press;
    press = null;
    if (done.moved) {
      if (done.node != null) calls.drop();
      return;
    }
    if (event.type === 'pointercancel') return;
    const at = view.nodeAt(...point, slop(event));
    const node = at == null ? null : view.scene.nodes[at];
    calls.pick(node, node ? null : view.linkAt(...point, slop(event)));
  };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);

  function hover(point) {
    const waits = hovering != null;
    hovering = point;
    if (waits) return;
    requestAnimationFrame(() => {
      const [x, y] = hovering;
      hovering = null;
      const node = view.nodeAt(x, y, 5);
      const link = node == null && view.scene.links.length < 6000 ? view.linkAt(x, y, 5) : null;
      if (node === view.hover && link === view.hoverLink) return;
      view.hover = node;
      view.hoverLink = link;
      canvas.classList.toggle('over', node != null || link != null);
      calls.hover(node == null ? null : view.scene.nodes[node], link, [x, y]);
      view.ask();
    });
  }

  canvas.addEventListener('pointerleave', () => {
    if (view.hover == null && view.hoverLink == null) return;
    view.hover = view.hoverLink = null;
    calls.hover(null, null);
    view.ask();
  });

  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const speed = event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.0022;
    view.zoom(Math.exp(-event.deltaY * speed), ...place(event));
  }, { passive: false });

  canvas.addEventListener('dblclick', (event) => {
    const point = place(event);
    const at = view.nodeAt(...point, 5);
    if (at != null) calls.open(view.scene.nodes[at]);
    else view.zoom(event.shiftKey ? 0.5 : 2, ...point, true);
  });
}
