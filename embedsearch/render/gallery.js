"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const links = cards.map((card) => card.querySelector(".picture"));
  const names = cards.map((card) =>
    [".folder", ".name"].map((part) => card.querySelector(part).textContent).join("/").toLowerCase());
  const filter = document.querySelector("#filter input");
  const count = document.getElementById("count");
  const closer = document.getElementById("closer");
  const stage = closer.querySelector(".stage");
  const caption = closer.querySelector("figcaption");
  const keys = document.getElementById("keys");
  const said = document.getElementById("said");
  let current = 0; // the card that a tab reaches
  let closest = 0; // the card that is, or was last, looked at closer

  for (const part of document.querySelectorAll("#filter, #keys, .look")) part.hidden = false;
  links.forEach((link, i) => (link.tabIndex = i ? -1 : 0));

  const shown = (i) => !cards[i].hidden;
  const plural = (n) => `${n} ${n === 1 ? "picture" : "pictures"}`;

  function makeCurrent(i) {
    links[current].tabIndex = -1;
    links[i].tabIndex = 0;
    current = i;
  }

  function step(from, by) {
    let i = from + by;
    while (i >= 0 && i < cards.length && !shown(i)) i += by;
    return i >= 0 && i < cards.length ? i : from;
  }

  // The card of the next row up (-1) or down (1) whose middle is nearest to that of `from`.
  function otherRow(from, direction) {
    const here = links[from].getBoundingClientRect();
    const middle = here.left + here.width / 2;
    let best = from, row = null, least = Infinity;
    for (let i = from + direction; i >= 0 && i < cards.length; i += direction) {
      if (!shown(i)) continue;
      const there = links[i].getBoundingClientRect();
      if (direction > 0 ? there.top < here.bottom : there.bottom > here.top) continue;
      row ??= there.top;
      if (Math.abs(there.top - row) > 4) break;
      const distance = Math.abs(there.left + there.width / 2 - middle);
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  const moves = {
    ArrowLeft: () => step(current, -1),
    ArrowRight: () => step(current, 1),
    ArrowUp: () => otherRow(current, -1),
    ArrowDown: () => otherRow(current, 1),
    Home: () => step(-1, 1),
    End: () => step(cards.length, -1),
  };

  // The thumbnail at once, the file itself as soon as it is there and if the browser can show it.
  function look(i) {
    closest = i;
    const parts = [...links[i].children].map((part) => part.cloneNode(true));
    stage.replaceChildren(...parts);
    caption.replaceChildren(...cards[i].querySelector(".caption").cloneNode(true).children);
    caption.querySelector(".folder").textContent = links[i].title;
    const thumbnail = parts.find((part) => part.matches("img, .blank"));
    const whole = new Image();
    whole.onload = () => thumbnail.replaceWith(whole);
    whole.alt = links[i].getAttribute("aria-label");
    whole.src = links[i].href;
    closer.querySelector(".open").href = links[i].href;
    closer.querySelector(".open-folder").href = links[i].href.replace(/[^/]*$/, "");
    if (closer.open) return;
    closer.showModal();
    closer.focus(); // else the first button has the focus, and takes enter and space
  }

  function shut() {
    closer.close();
    links[closest].focus();
  }

  // A path as one word for a shell. The URL has its bytes, whatever they are.
  function shellWord(url) {
    const bytes = url.replace("file://", "");
    const path = pathOf(bytes);
    if (path === null) return `$'${bytes.replaceAll("%", "\\x")}'`;
    return /^[\w@+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
  }

  // The path as text, or null where it is none, or would break a line.
  function pathOf(bytes) {
    try {
      const path = decodeURIComponent(bytes);
      return /[\x00-\x1f\x7f]/.test(path) ? null : path;
    } catch {
      return null;
    }
  }

  function toCopy(what, i) {
    const url = links[i].getAttribute("href");
    if (what === "path") return pathOf(url.replace("file://", "")) ?? shellWord(url);
    const index = document.body.dataset.index;
    const where = index ? ` --index ${shellWord(index)}` : "";
    return `embedsearch similar ${shellWord(url)}${where} --html more.html --open`;
  }

  async function copy(what, i) {
    const text = toCopy(what, i);
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      return prompt("Copy this:", text);
    }
    (closer.open ? closer : document.body).append(said);
    said.textContent = `Copied: ${text}`;
    said.classList.add("up");
    clearTimeout(said.timer);
    said.timer = setTimeout(() => said.classList.remove("up"), 2500);
  }

  function keepTo(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    cards.forEach((card, i) => (card.hidden = !words.every((word) => names[i].includes(word))));
    for (const section of document.querySelectorAll("section"))
      section.hidden = !section.querySelector(".card:not([hidden])");
    const left = cards.filter((card) => !card.hidden).length;
    count.textContent = left < cards.length ? `${left} of ${plural(cards.length)}` : plural(left);
    document.getElementById("none").hidden = left > 0;
    if (left && !shown(current)) makeCurrent(moves.Home());
  }

  function keyInCloser(event) {
    if (event.key === "ArrowLeft" || event.key === "ArrowUp") look(step(closest, -1));
    else if (event.key === "ArrowRight" || event.key === "ArrowDown") look(step(closest, 1));
    else if (event.key === "Escape") shut();
    else if (event.key === "c") copy("path", closest);
    else if (event.key === "m") copy("command", closest);
    else if (event.target.matches("button, a")) return; // enter and space press it
    else if (event.key === "Enter") window.open(links[closest].href, "_blank", "noopener");
    else if (event.key === " ") shut();
    else return;
    event.preventDefault();
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (closer.open) return keyInCloser(event);
    if (event.target === filter) {
      if (event.key === "Escape") {
        keepTo((filter.value = ""));
        filter.blur();
      } else if (event.key === "Enter" || event.key === "ArrowDown") {
        event.preventDefault();
        if (shown(current)) links[current].focus();
      }
      return;
    }
    const at = links.indexOf(document.activeElement);
    if (event.key === "/") filter.focus();
    else if (event.key === "?") keys.classList.toggle("up");
    else if (event.key === "Escape") keys.classList.remove("up");
    else if (event.key === "c" && at >= 0) copy("path", at);
    else if (event.key === "m" && at >= 0) copy("command", at);
    else if (event.key === " " && at >= 0) look(at);
    else if (event.key in moves && at >= 0) links[moves[event.key]()].focus();
    else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && shown(current))
      links[current].focus();
    else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", key);
  links.forEach((link, i) => link.addEventListener("focus", () => makeCurrent(i)));
  cards.forEach((card, i) =>
    card.querySelector(".look").addEventListener("click", () => look(i)));
  filter.addEventListener("input", () => keepTo(filter.value));
  closer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.step) look(step(closest, Number(button.dataset.step)));
    else if (button?.dataset.copy) copy(button.dataset.copy, closest);
    else if (button || event.target === stage || event.target === closer) shut();
  });
})();
