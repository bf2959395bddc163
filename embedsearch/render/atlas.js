// The panels: search, legend, what is chosen, the card of one picture; keys.
const search = document.getElementById("search");
const legend = document.getElementById("legend");
const chosenPanel = document.getElementById("chosen");
const card = document.getElementById("card");
const count = document.getElementById("count");
const said = count.textContent;
const tools = Object.fromEntries(
  [...document.querySelectorAll("[data-do]")].map((button) => [button.dataset.do, button]));
const plural = (n) => `${n.toLocaleString("en")} ${n === 1 ? "picture" : "pictures"}`;
const LISTED = 300;
let chosen = [];
let found = null; // what the search left, or null

// Search and legend

function light() {
  lit.fill(found ? 0 : 1);
  for (const i of found ?? []) lit[i] = 1;
  const { off, of, labels } = colouring;
  if (off?.size)
    for (let i = 0; i < total; i++) if (off.has(of[i] < 0 ? labels.length : of[i])) lit[i] = 0;
  let left = 0;
  for (let i = 0; i < total; i++) left += lit[i];
  count.textContent = left < total ? `${left.toLocaleString("en")} of ${plural(total)}` : said;
  forgetRoom();
  askToDraw();
}

function showLegend() {
  const counts = new Array(colouring.labels.length + 1).fill(0);
  for (const of of colouring.of) counts[of < 0 ? colouring.labels.length : of]++;
  const items = [...colouring.labels, colouring.labels.length ? "none" : "all pictures"]
    .map((name, label) => {
      if (!counts[label]) return null;
      const item = document.createElement("li");
      const button = document.createElement("button");
      const [dot, text, size] = ["i", "span", "small"].map((tag) => document.createElement(tag));
      button.type = "button";
      button.setAttribute("aria-pressed", String(!colouring.off?.has(label)));
      button.title = name;
      dot.style.setProperty("--dot", colouring.colours[label] ?? told.uncoloured);
      text.textContent = name;
      text.dir = "auto";
      size.textContent = counts[label].toLocaleString("en");
      button.append(dot, text, size);
      button.addEventListener("click", (event) => toggle(label, event.shiftKey || event.altKey));
      item.append(button);
      return item;
    });
  legend.querySelector("ul").replaceChildren(...items.filter(Boolean));
}

// One more or one less; with shift this one alone, or all again.
function toggle(label, alone) {
  const all = [...colouring.labels.keys(), colouring.labels.length];
  const off = (colouring.off ??= new Set());
  if (alone) {
    const others = all.filter((it) => it !== label);
    const isAlone = !off.has(label) && others.every((it) => off.has(it));
    colouring.off = new Set(isAlone ? [] : others);
  } else if (!off.delete(label)) off.add(label);
  showLegend();
  light();
}

document.getElementById("colour").addEventListener("change", (event) => {
  colouring = colourings[event.target.selectedIndex];
  showLegend();
  light();
});

let typed = 0;
search.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    found = search.value.trim() ? matching(search.value) : null;
    light();
  }, 80);
});

// The card of one picture

let looking = 0;
function hover(i, at = middle(), held = false) {
  if (i === current && !held) {
    if (i >= 0) putCard(at);
    return;
  }
  current = i;
  stage.classList.toggle("over", i >= 0);
  card.hidden = i < 0;
  card.classList.toggle("held", held);
  askToDraw();
  clearTimeout(looking);
  if (i < 0) return;
  card.querySelector(".name").textContent = told.names[i];
  card.querySelector(".folder").textContent = told.folders[folderOf[i]][0];
  card.querySelector(".facts").textContent = factsOf(i).join(" · ");
  card.querySelector("a").href = urlOf(i);
  showThumb(i);
  const whole = card.querySelector("img");
  whole.hidden = true;
  whole.onload = () => (whole.hidden = current !== i);
  looking = setTimeout(() => (whole.src = urlOf(i)), 150); // the file itself, if the eye stays
  putCard(at);
}

function showThumb(i) {
  const canvas = card.querySelector("canvas");
  canvas.width = canvas.height = told.tile * 2;
  canvas.hidden = !hasThumb(i);
  if (hasThumb(i))
    drawThumb(canvas.getContext("2d"), i, 0, 0, told.tile * 2, () => current === i && showThumb(i));
}

function putCard([x, y]) {
  const { offsetWidth: wide, offsetHeight: high } = card;
  const left = x + 18 + wide < width ? x + 18 : Math.max(8, x - 18 - wide);
  card.style.left = `${left}px`;
  card.style.top = `${Math.max(8, Math.min(y + 18, height - high - 8))}px`;
}

function openPicture(i) {
  window.open(urlOf(i), "_blank", "noopener");
}

// What is chosen

function choose(ids, more = false) {
  chosen = more ? [...new Set([...chosen, ...ids])] : ids;
  picked = new Uint8Array(total);
  for (const i of chosen) picked[i] = 1;
  anyPicked = chosen.length > 0;
  chosenPanel.hidden = !anyPicked;
  chosenPanel.querySelector("b").textContent = plural(chosen.length);
  const items = chosen.slice(0, LISTED).map((i) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = urlOf(i);
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = told.names[i];
    link.title = pathOf(i);
    item.append(link);
    return item;
  });
  if (chosen.length > LISTED) {
    const rest = document.createElement("small");
    rest.textContent = `and ${(chosen.length - LISTED).toLocaleString("en")} more`;
    items.push(rest);
  }
  chosenPanel.querySelector("ul").replaceChildren(...items);
  askToDraw();
}

async function copy() {
  const text = chosen.map(pathOf).join("\n") + "\n";
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that is a file may not be let near the clipboard
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tools.copy.textContent = "Copied";
  setTimeout(() => (tools.copy.textContent = "Copy paths"), 1500);
}

// Buttons and keys

const press = (button, on) => button.setAttribute("aria-pressed", String(on));
const deeds = {
  in: () => zoom(1.6),
  out: () => zoom(1 / 1.6),
  fit,
  lasso() {
    lassoOn = !lassoOn;
    stage.classList.toggle("lasso", lassoOn);
    press(tools.lasso, lassoOn);
  },
  thumbs() {
    thumbsOn = !thumbsOn;
    press(tools.thumbs, thumbsOn);
    askToDraw();
  },
  legend() {
    legend.hidden = !legend.hidden;
    press(tools.legend, !legend.hidden);
  },
  copy,
  clear: () => choose([]),
};
for (const [name, button] of Object.entries(tools)) button.addEventListener("click", deeds[name]);

function walk(x, y) {
  pan(x, y);
  hover(pictureAt(...middle(), Math.max(width, height)), middle());
}

const keys = {
  ArrowLeft: () => walk(60, 0),
  ArrowRight: () => walk(-60, 0),
  ArrowUp: () => walk(0, 60),
  ArrowDown: () => walk(0, -60),
  "+": deeds.in,
  "=": deeds.in,
  "-": deeds.out,
  0: fit,
  l: deeds.lasso,
  t: deeds.thumbs,
  g: deeds.legend,
  c: copy,
  "/": () => search.focus(),
  Enter: () => current >= 0 && openPicture(current),
  " ": () => current >= 0 && choose([current], true),
  Escape() {
    hover(-1);
    choose([]);
    if (lassoOn) deeds.lasso();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === search) {
    if (event.key === "Escape") {
      search.value = "";
      found = null;
      light();
      stage.focus();
    } else if (event.key === "Enter") choose(matching(search.value));
    return;
  }
  const does = keys[event.key] ?? keys[event.key.toLowerCase()];
  const elsewhere = event.target.closest?.("button, select, a");
  if (!does || (elsewhere && /^(Enter| |Arrow)/.test(event.key))) return;
  event.preventDefault();
  does();
});

if (innerWidth <= 736) { // little room: the legend waits behind its button
  deeds.legend();
  search.placeholder = "Search";
}
resize();
fit();
showLegend();
addEventListener("resize", () => {
  forgetRoom();
  resize();
  fit();
});
addEventListener("load", askToDraw); // the sheets are all there now
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readStyles();
  askToDraw();
});
