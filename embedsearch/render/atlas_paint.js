// How the map is drawn: points into a bitmap of our own, thumbnails and names over it.
const stage = document.getElementById("stage");
const canvas = document.getElementById("map");
const context = canvas.getContext("2d");
const view = { k: 1, x: 0, y: 0 }; // point (u, v) is drawn at (u * k + x, v * k + y) CSS pixels
const lit = new Uint8Array(total).fill(1); // what is searched for and not switched off
let colouring = colourings[0];
let thumbsOn = true;
let width = 1, height = 1, ratio = 1, pixels = null, image = null;
let fitted = 1; // the magnification that shows all
let current = -1; // the picture under the pointer, or in the middle
let picked = new Uint8Array(total);
let anyPicked = false;
let lassoPath = [];
let styles = {};

function resize() {
  ratio = Math.min(devicePixelRatio || 1, 2);
  width = innerWidth;
  height = innerHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  image = new ImageData(canvas.width, canvas.height);
  pixels = new Uint32Array(image.data.buffer);
  readStyles();
}

function readStyles() {
  const css = getComputedStyle(document.documentElement);
  styles = Object.fromEntries(
    ["paper", "ink", "faint", "accent"].map((name) => [name, css.getPropertyValue(`--${name}`).trim()]));
}

// A disc as rows of (offset, alpha), for a bitmap that is `across` pixels wide.
function discOf(radius, across) {
  const offsets = [], alphas = [];
  const reach = Math.ceil(radius);
  for (let y = -reach; y <= reach; y++)
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y)));
      if (cover > 0.1) {
        offsets.push(y * across + x);
        alphas.push(Math.round(cover * 255));
      }
    }
  return { offsets: Int32Array.from(offsets), alphas: Uint8Array.from(alphas), reach };
}

function pointRadius() {
  const crowd = Math.sqrt((width * height) / Math.max(total, 1)) / 7;
  return Math.min(6, Math.max(0.9, Math.min(crowd, 3.2)) * Math.pow(view.k / fitted, 0.25)) * ratio;
}

function drawPoints() {
  pixels.fill(0);
  const across = canvas.width, down = canvas.height;
  const { offsets, alphas, reach } = discOf(pointRadius(), across);
  const faint = rgbOf(styles.faint);
  const { rgb, of } = colouring;
  const none = rgb.length - 1;
  const k = view.k * ratio, left = view.x * ratio, top = view.y * ratio;
  // What is not lit first, so that it lies below.
  for (let pass = 0; pass < 2; pass++)
    for (let i = 0; i < total; i++) {
      if (lit[i] !== pass) continue;
      const x = (px[i] * k + left + 0.5) | 0, y = (py[i] * k + top + 0.5) | 0;
      if (x < reach || y < reach || x >= across - reach || y >= down - reach) continue;
      const colour = pass ? rgb[of[i] < 0 ? none : of[i]] : faint;
      const at = y * across + x;
      for (let j = 0; j < offsets.length; j++) {
        const to = at + offsets[j], alpha = alphas[j];
        const below = pixels[to] >>> 24;
        if (alpha === 255 || below === 0) pixels[to] = colour | (alpha << 24);
        else if (alpha > 127) pixels[to] = colour | (Math.max(alpha, below) << 24);
      }
    }
  context.putImageData(image, 0, 0); // in the place of all that was there
}

// Which thumbnails have room: for each step of magnification the same ones wherever one looks, and
// all those of the step before. A finer step is worked out when the hand rests; until then the one
// before it does.
const STEP = 1.2;
const roomy = []; // pictures by step
let working = 0;

function forgetRoom() {
  roomy.length = 0;
}

function baseSide() {
  const most = Math.min(width, height) < 500 ? 64 : 96;
  return Math.min(most, Math.max(40, Math.sqrt((width * height) / Math.max(total, 1)) * 0.55));
}

const stepOf = () => Math.max(0, Math.floor(Math.log(view.k / fitted) / Math.log(STEP) + 1e-6));
const sideAt = (step) => Math.min(104, baseSide() * Math.pow(STEP, step * 0.2));

function withRoom() {
  const step = stepOf();
  if (!roomy.length) roomy.push(fill([], 0));
  if (step >= roomy.length && !working)
    working = setTimeout(() => {
      working = 0;
      const wanted = stepOf();
      while (roomy.length <= wanted) roomy.push(fill(roomy.at(-1), roomy.length));
      askToDraw();
    }, 30);
  return roomy[Math.min(step, roomy.length - 1)];
}

// `before`, and whoever of the others has room beside all that are there already.
function fill(before, step) {
  const chosen = [...before];
  const k = fitted * Math.pow(STEP, step), gap = 3 / k;
  const cell = sideAt(step) / k + gap; // no thumbnail reaches beyond the cells around its own
  const wide = (i) => (tileSizes[2 * i] * sideAt(step)) / told.tile / k;
  const high = (i) => (tileSizes[2 * i + 1] * sideAt(step)) / told.tile / k;
  const first = new Map(), next = new Int32Array(total).fill(-1);
  const keyOf = (u, v) => u * 4194304 + v;
  const put = (i) => {
    const key = keyOf(Math.floor(px[i] / cell), Math.floor(py[i] / cell));
    next[i] = first.get(key) ?? -1;
    first.set(key, i);
  };
  const taken = new Uint8Array(total);
  for (const i of chosen) {
    taken[i] = 1;
    put(i);
  }
  const isFree = (i) => {
    const u = Math.floor(px[i] / cell), v = Math.floor(py[i] / cell);
    for (let a = u - 1; a <= u + 1; a++)
      for (let b = v - 1; b <= v + 1; b++)
        for (let j = first.get(keyOf(a, b)) ?? -1; j >= 0; j = next[j])
          if (
            Math.abs(px[i] - px[j]) < (wide(i) + wide(j)) / 2 + gap &&
            Math.abs(py[i] - py[j]) < (high(i) + high(j)) / 2 + gap
          ) return false;
    return true;
  };
  for (let i = 0; i < total; i++)
    if (!taken[i] && lit[i] && hasThumb(i) && isFree(i)) {
      chosen.push(i);
      put(i);
    }
  return chosen.length > before.length ? chosen : before;
}

let thumbsMissing = 0;
function drawThumbs() {
  thumbsMissing = 0;
  if (!thumbsOn) return;
  const step = stepOf(), side = sideAt(step), half = side / 2;
  context.lineWidth = 1.5;
  for (const i of withRoom()) {
    const x = px[i] * view.k + view.x, y = py[i] * view.k + view.y;
    if (x < -half || y < -half || x > width + half || y > height + half) continue;
    const became = drawThumb(context, i, x - half, y - half, side, askToDraw);
    if (became === "awaited") thumbsMissing++;
    if (became !== "drawn") continue;
    const scale = side / told.tile;
    const wide = tileSizes[2 * i] * scale, high = tileSizes[2 * i + 1] * scale;
    context.strokeStyle =
      colouring.of[i] < 0 ? told.uncoloured : colouring.colours[colouring.of[i]];
    context.strokeRect(x - wide / 2, y - high / 2, wide, high);
  }
}

// Names stand where the middle of their pictures is, the largest category first.
const middles = new Map();
function middlesOf(one) {
  if (middles.has(one)) return middles.get(one);
  const members = one.labels.map(() => []);
  for (let i = 0; i < total; i++) if (one.of[i] >= 0) members[one.of[i]].push(i);
  const median = (ids, of) => ids.map((i) => of[i]).sort((a, b) => a - b)[ids.length >> 1];
  const found = members
    .map((ids, label) => ({ label, count: ids.length, x: median(ids, px), y: median(ids, py) }))
    .filter((it) => it.count)
    .sort((a, b) => b.count - a.count);
  middles.set(one, found);
  return found;
}

function drawMarks() {
  for (let i = 0; anyPicked && i < total; i++) if (picked[i]) ring(i, 4, 1.5);
  if (current >= 0) ring(current, 7, 2.5);
  drawNames();
  if (lassoPath.length < 2) return;
  context.beginPath();
  for (const [x, y] of lassoPath) context.lineTo(x, y);
  context.closePath();
  context.fillStyle = styles.accent + "22";
  context.strokeStyle = styles.accent;
  context.lineWidth = 1.5;
  context.fill();
  context.stroke();
}

function ring(i, radius, line) {
  context.beginPath();
  context.arc(px[i] * view.k + view.x, py[i] * view.k + view.y, radius, 0, 7);
  context.strokeStyle = styles.ink;
  context.lineWidth = line;
  context.stroke();
}

const SHORTENED = 32;
function drawNames() {
  if (colouring.name === "none") return;
  const placed = [];
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  const room = Math.max(6, (width * height) / 26000);
  for (const { label, count, x, y } of middlesOf(colouring)) {
    if (placed.length >= room) break;
    if (colouring.off?.has(label)) continue;
    const across = x * view.k + view.x, top = y * view.k + view.y;
    if (across < 0 || top < 0 || across > width || top > height) continue;
    const size = 12 + Math.min(7, Math.sqrt(count / total) * 16);
    const letters = [...colouring.labels[label]];
    const text = letters.length > SHORTENED
      ? `${letters.slice(0, SHORTENED - 1).join("")}…` : letters.join("");
    context.font = `600 ${size}px system-ui, sans-serif`;
    const half = context.measureText(text).width / 2 + 4;
    const left = Math.max(half, Math.min(width - half, across));
    const box = [left - half, top - size * 0.7, left + half, top + size * 0.7];
    if (placed.some((it) => box[0] < it[2] && it[0] < box[2] && box[1] < it[3] && it[1] < box[3]))
      continue;
    placed.push(box);
    context.strokeStyle = styles.paper;
    context.lineWidth = 4;
    context.strokeText(text, left, top);
    context.fillStyle = styles.ink;
    context.fillText(text, left, top);
  }
}

let waiting = false, drawn = false;
function draw() {
  waiting = false;
  frame++;
  drawPoints();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawThumbs();
  drawMarks();
  const mark = document.documentElement.dataset;
  if (!drawn) {
    drawn = true;
    mark.drawn = Math.round(performance.now()); // milliseconds since the page was opened
  }
  if (!thumbsMissing && document.readyState === "complete") mark.pictured ??= Math.round(performance.now());
}

function askToDraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}
