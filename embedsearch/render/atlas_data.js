"use strict";
// What the page knows of its pictures. Point i is at (px[i], py[i]), in a square of side 1.
const told = JSON.parse(document.getElementById("data").textContent);
const total = told.names.length;
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const px = new Float32Array(bytesOf(told.x).buffer);
const py = new Float32Array(bytesOf(told.y).buffer);
const folderOf = new Int32Array(bytesOf(told.folder).buffer);
const tileSizes = bytesOf(told.sizes); // width and height of each thumbnail; 0 where there is none
const colourings = told.colourings.map((one) => ({
  ...one,
  of: new Int32Array(bytesOf(one.of).buffer),
  rgb: [...one.colours, told.uncoloured].map(rgbOf), // the last is that of pictures with none
}));

// As a little-endian pixel without its alpha.
function rgbOf(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return red | (green << 8) | (blue << 16);
}

const pathOf = (i) => `${told.folders[folderOf[i]][0]}/${told.names[i]}`;

// The name of a file need not be text: then its URL is told apart.
const urlOf = (i) =>
  `${told.folders[folderOf[i]][1]}/${told.odd[i] ?? encodeURIComponent(told.names[i])}`;

function factsOf(i) {
  const facts = [];
  for (const one of colourings) {
    if (one.name === "folder" || one.name === "tag" || one.of[i] < 0) continue;
    facts.push(one.labels[one.of[i]]);
  }
  if (told.dates[i]) facts.push(told.dates[i]);
  const tags = (told.tags[i] ?? []).map((tag) => told.tag_names[tag]);
  return [...new Set([...facts, ...tags])];
}

let haystacks = null;
function matching(text) {
  haystacks ??= Array.from({ length: total }, (_, i) =>
    [pathOf(i), ...factsOf(i)].join("\n").toLowerCase());
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (let i = 0; i < total; i++)
    if (words.every((word) => haystacks[i].includes(word))) found.push(i);
  return found;
}

// Sheets of thumbnails: decoded when a part of one is to be seen, forgotten when long unseen. All
// that are kept take 160 MB at most.
const TILES = told.across * told.across;
const SHEETS_KEPT = Math.floor(40e6 / (TILES * told.tile * told.tile));
const sheets = new Map();
let frame = 0;

// The sheet as a bitmap; null where it is on its way, undefined where there is no room for it.
function sheet(number, whenThere) {
  let one = sheets.get(number);
  if (one) {
    sheets.delete(number); // and in again: a Map remembers the order
    sheets.set(number, one);
    one.seen = frame;
    return one.bitmap;
  }
  const [oldest, last] = sheets.entries().next().value ?? [];
  const isFull = sheets.size >= SHEETS_KEPT;
  if (isFull && last.seen === frame) return undefined; // all of them are to be seen right now
  const text = document.getElementById(`sheet-${number}`)?.textContent;
  if (!text) return null; // not read yet
  one = { bitmap: null, seen: frame };
  sheets.set(number, one);
  if (isFull) {
    sheets.delete(oldest);
    last.bitmap?.close();
  }
  const image = new Image();
  image.onload = async () => {
    const bitmap = await createImageBitmap(image);
    if (sheets.get(number) === one) {
      one.bitmap = bitmap;
      whenThere();
    } else bitmap.close();
  };
  image.src = `data:image/webp;base64,${text}`;
  return null;
}

const hasThumb = (i) => tileSizes[2 * i] > 0;

// Draws the thumbnail of picture i into a box; returns what came of it.
function drawThumb(context, i, left, top, side, whenThere) {
  const bitmap = sheet(Math.floor(i / TILES), whenThere);
  if (!bitmap) return bitmap === null ? "awaited" : "no room";
  const at = i % TILES;
  const [wide, high] = [tileSizes[2 * i], tileSizes[2 * i + 1]];
  const scale = side / told.tile;
  context.drawImage(
    bitmap,
    (at % told.across) * told.tile,
    Math.floor(at / told.across) * told.tile,
    wide,
    high,
    left + (side - wide * scale) / 2,
    top + (side - high * scale) / 2,
    wide * scale,
    high * scale,
  );
  return "drawn";
}
