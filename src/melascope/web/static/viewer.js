// A photograph that can be looked at closely, and the heatmap over it.

const CLOSEST = 12; // times
const STEP = 1.4;
const PAN_PX = 60;

let opacity = null; // of every heatmap, per cent; null until somebody has set it

/** Show a case's heatmaps as the last one was. */
export function applyOpacity(article) {
  if (opacity === null) return;
  article.style.setProperty("--heat-opacity", String(opacity / 100));
  for (const range of article.querySelectorAll(".opacity-range")) range.value = opacity;
}

/** Give a case that came from the server its photographs and its controls. */
export function wireCase(article, urls) {
  const figures = [...article.querySelectorAll("figure.photo")];
  figures.forEach((figure, n) => {
    const shot = figure.querySelector("img.shot");
    if (!shot.hasAttribute("src")) shot.src = urls[n]; // what browsers cannot show came with a preview
    wireViewer(figure);
  });
  const picker = article.querySelector(".picker");
  if (picker) wirePicker(picker, figures);
}

function wirePicker(picker, figures) {
  picker.hidden = false;
  const buttons = [...picker.querySelectorAll("button")];
  const pick = (chosen) => {
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(n === chosen)));
    figures.forEach((figure, n) => { figure.hidden = n !== chosen; });
  };
  buttons.forEach((button, n) => {
    button.querySelector("img").src = figures[n].querySelector("img.shot").src;
    button.addEventListener("click", () => pick(n));
  });
  pick(Math.max(0, figures.findIndex((figure) => "speaks" in figure.dataset)));
}

function wireViewer(figure) {
  const stage = figure.querySelector(".stage");
  const plane = figure.querySelector(".plane");
  const pointers = new Map();
  let scale = 1, x = 0, y = 0; // of the plane in the stage, pixels

  const show = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    x = Math.min(0, Math.max(x, width * (1 - scale)));
    y = Math.min(0, Math.max(y, height * (1 - scale)));
    plane.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    stage.classList.toggle("zoomed", scale > 1);
  };
  /** Zoom by a factor, keeping the point (in the stage) where it is. */
  const zoom = (factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) => {
    const wanted = Math.min(CLOSEST, Math.max(1, scale * factor));
    x = atX - (atX - x) * (wanted / scale);
    y = atY - (atY - y) * (wanted / scale);
    scale = wanted;
    show();
  };
  const all = () => { scale = 1; show(); };
  const pan = (dx, dy) => { x += dx; y += dy; show(); };
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const tools = figure.querySelector(".zoom-tools");
  tools.hidden = false;
  const actions = { in: () => zoom(STEP), out: () => zoom(1 / STEP), all };
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) actions[button.dataset.zoom]();
  });

  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, "0": all,
    ArrowLeft: () => pan(PAN_PX, 0), ArrowRight: () => pan(-PAN_PX, 0),
    ArrowUp: () => pan(0, PAN_PX), ArrowDown: () => pan(0, -PAN_PX),
  };
  stage.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow") && scale === 1) return; // the page scrolls
    event.preventDefault();
    act();
  });

  // The wheel zooms where that is meant: over a picture that was clicked or zoomed, or with Ctrl (a pinch on a pad).
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && scale === 1 && document.activeElement !== stage) return;
    event.preventDefault();
    const { x: atX, y: atY } = place(event);
    zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / (event.ctrlKey ? 100 : 400)), atX, atY);
  }, { passive: false });

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, place(event));
    if (scale > 1 || pointers.size > 1) stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const reach = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      zoom(reach(now) / reach(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (scale > 1) {
      pan(now.x - before.x, now.y - before.y);
    }
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("dblclick", (event) => {
    const { x: atX, y: atY } = place(event);
    if (scale > 1) all();
    else zoom(3, atX, atY);
  });
  new ResizeObserver(show).observe(stage);

  const control = figure.querySelector(".opacity");
  if (control) {
    control.hidden = false;
    const range = control.querySelector("input");
    range.addEventListener("input", () => { opacity = range.value; applyOpacity(figure.closest("article")); });
  }
}
