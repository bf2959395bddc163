// Moving about: pointers (mouse, pen, fingers), wheel, keys.
const bounds = { left: 0, top: 0, right: 1, bottom: 1 };
for (let i = 0; i < total; i++) {
  bounds.right = Math.max(i ? bounds.right : 0, px[i]);
  bounds.bottom = Math.max(i ? bounds.bottom : 0, py[i]);
}

// The part of the window that the panels leave free.
function free() {
  const wide = width > 736;
  const right = wide && !legend.hidden ? 272 : 0;
  return { left: 24, top: 76, right: width - right - 24, bottom: height - (wide ? 40 : 64) };
}

function fit() {
  const room = free();
  const across = bounds.right - bounds.left, down = bounds.bottom - bounds.top;
  const before = fitted;
  fitted = Math.max(
    40,
    Math.min((room.right - room.left) / Math.max(across, 1e-3), (room.bottom - room.top) / Math.max(down, 1e-3)) * 0.96,
  );
  fitted = Math.min(fitted, 4 * Math.max(width, height));
  if (fitted !== before) forgetRoom();
  view.k = fitted;
  view.x = (room.left + room.right) / 2 - ((bounds.left + bounds.right) / 2) * view.k;
  view.y = (room.top + room.bottom) / 2 - ((bounds.top + bounds.bottom) / 2) * view.k;
  askToDraw();
}

const largest = () => fitted * Math.max(40, Math.sqrt(total) * 6);

// The middle of what is free to be seen.
function middle() {
  const room = free();
  return [(room.left + room.right) / 2, (room.top + room.bottom) / 2];
}

function zoom(factor, x = middle()[0], y = middle()[1]) {
  const k = Math.min(largest(), Math.max(fitted / 3, view.k * factor));
  view.x = x - ((x - view.x) / view.k) * k;
  view.y = y - ((y - view.y) / view.k) * k;
  view.k = k;
  askToDraw();
}

function pan(x, y) {
  const most = 0.8; // of the window may be empty
  const clamp = (at, low, high) => Math.min(Math.max(at, low), high);
  view.x = clamp(view.x + x, width * (1 - most) - bounds.right * view.k, width * most - bounds.left * view.k);
  view.y = clamp(view.y + y, height * (1 - most) - bounds.bottom * view.k, height * most - bounds.top * view.k);
  askToDraw();
}

// The picture at a place: a thumbnail that covers it, else the nearest point within reach.
function pictureAt(x, y, reach = 12) {
  if (thumbsOn) {
    const step = stepOf(), half = sideAt(step) / 2;
    for (const i of withRoom()) {
      const scale = sideAt(step) / told.tile / 2;
      if (
        Math.abs(px[i] * view.k + view.x - x) <= Math.min(half, tileSizes[2 * i] * scale) &&
        Math.abs(py[i] * view.k + view.y - y) <= Math.min(half, tileSizes[2 * i + 1] * scale)
      ) return i;
    }
  }
  let best = -1, least = reach * reach;
  for (let i = 0; i < total; i++) {
    if (!lit[i]) continue;
    const across = px[i] * view.k + view.x - x, down = py[i] * view.k + view.y - y;
    const distance = across * across + down * down;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

const pointers = new Map();
let mode = ""; // "pan", "lasso", or nothing
let lassoOn = false;
let moved = 0;

stage.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pointers.size === 1) {
    moved = 0;
    mode = lassoOn || event.shiftKey ? "lasso" : "pan";
    lassoPath = mode === "lasso" ? [[event.clientX, event.clientY]] : [];
  } else {
    mode = "pan"; // two fingers zoom, whatever one would do
    lassoPath = [];
  }
});

stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  const now = [event.clientX, event.clientY];
  if (!before) {
    if (event.pointerType !== "touch") hover(pictureAt(...now), now);
    return;
  }
  const others = [...pointers].filter(([id]) => id !== event.pointerId);
  pointers.set(event.pointerId, now);
  const [x, y] = [now[0] - before[0], now[1] - before[1]];
  moved += Math.abs(x) + Math.abs(y);
  if (mode === "lasso") {
    lassoPath.push(now);
    askToDraw();
  } else if (others.length) {
    const [, other] = others[0];
    const spread = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
    zoom(spread(now) / Math.max(spread(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    pan(x / 2, y / 2);
  } else if (moved > 4) {
    hover(-1);
    stage.classList.add("moving");
    pan(x, y);
  }
});

function pointerGone(event) {
  if (!pointers.delete(event.pointerId)) return;
  stage.classList.remove("moving");
  if (pointers.size || event.type === "pointercancel") {
    if (!pointers.size) lassoPath = [];
    return;
  }
  if (mode === "lasso") {
    if (lassoPath.length > 2) choose(within(lassoPath), event.shiftKey && anyPicked);
    lassoPath = [];
    askToDraw();
  } else if (moved <= 4) {
    const at = pictureAt(event.clientX, event.clientY, event.pointerType === "touch" ? 24 : 12);
    if (event.pointerType !== "touch") {
      if (at >= 0) openPicture(at);
    } else if (at >= 0 && at === current) openPicture(at);
    else hover(at, [event.clientX, event.clientY], true); // a first tap shows, a second opens
  }
  mode = "";
}
stage.addEventListener("pointerup", pointerGone);
stage.addEventListener("pointercancel", pointerGone);
stage.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch" && !pointers.size) hover(-1);
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  // Pixels, lines or pages; a pinch on a touchpad comes as small steps with ctrl.
  const unit = [1, 20, 400][event.deltaMode] * (event.ctrlKey ? 6 : 1);
  zoom(Math.pow(2, (-event.deltaY * unit) / 400), event.clientX, event.clientY);
  hover(-1);
}, { passive: false });

// Pictures inside a closed line, by the even-odd rule.
function within(line) {
  const found = [];
  const xs = line.map(([x]) => x), ys = line.map(([, y]) => y);
  const left = Math.min(...xs), right = Math.max(...xs), top = Math.min(...ys), bottom = Math.max(...ys);
  for (let i = 0; i < total; i++) {
    const x = px[i] * view.k + view.x, y = py[i] * view.k + view.y;
    if (!lit[i] || x < left || x > right || y < top || y > bottom) continue;
    let inside = false;
    for (let a = 0, b = line.length - 1; a < line.length; b = a++)
      if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a])
        inside = !inside;
    if (inside) found.push(i);
  }
  return found;
}
