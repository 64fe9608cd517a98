// Values of the maps, fetched at first display, and their conversion to colours.
import { ask } from "./base.js";

const tables = {};
export async function loadColors() {
  for (const [name, text] of Object.entries(await (await ask("colors.json")).json())) {
    const table = new Uint32Array(text.length / 6);
    for (let n = 0; n < table.length; n += 1) {
      const value = parseInt(text.slice(6 * n, 6 * n + 6), 16);
      table[n] = 0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16);
    }
    tables[name] = table;
  }
}

// Keys of underpaint.data.maps.STATES; the largest key has the last colour.
export const NOT_DETECTED = 0, CANNOT_EXCLUDE = 2, LAST_STATE = 5;
// As in underpaint.display.viewer.spots.not_excluded_mask: the pigment is not detected, but cannot be excluded.
export const unknownAt = (probability, state, place) => probability < 0.5 && (place === "below" ? state === state && state !== NOT_DETECTED : state === CANNOT_EXCLUDE);

export const CLUSTER_COLORS = ["#e6553a", "#3f8fd6", "#4caf50", "#f2c230", "#9b59b6", "#2fb5b0", "#f08fc0", "#8d6e4f", "#b7d968", "#5b6fd6", "#c0392b", "#9aa3ab"];
const fromHex = (text) => 0xff000000 | (parseInt(text.slice(5, 7), 16) << 16) | (parseInt(text.slice(3, 5), 16) << 8) | parseInt(text.slice(1, 3), 16);

export const NO_ANSWER = 0xffc4c4c4;
tables.clusters = Uint32Array.from(["#000000", ...CLUSTER_COLORS], fromHex);
export const tableOf = (name) => tables[name];

const fetched = new Map();
const MOST = 24;
export async function valuesOf(index) {
  if (!fetched.has(index)) {
    fetched.set(index, ask(`map?map=${index}`).then((answer) => answer.arrayBuffer()).then((buffer) => new Float32Array(buffer)));
    if (fetched.size > MOST) fetched.delete(fetched.keys().next().value);
  }
  try { return await fetched.get(index); } catch (error) { fetched.delete(index); throw error; }
}

const tops = new Map();
// Removes the values of a map that is computed again.
export function forget(index) { fetched.delete(index); tops.delete(index); tops.delete(-1 - index); }

// Value that is drawn in full colour: 1 for probabilities, the 99th percentile for counts, the last state for states.
export function topOf(entry, index, values) {
  if (entry.kind === "group" || entry.kind === "member") return 1;
  if (entry.kind === "state") return LAST_STATE;
  if (entry.kind === "cluster") return CLUSTER_COLORS.length;
  if (!tops.has(index)) {
    const step = Math.max(1, Math.floor(values.length / 100000));
    const known = [];
    for (let at = 0; at < values.length; at += step) if (Number.isFinite(values[at])) known.push(values[at]);
    known.sort((a, b) => a - b);
    const top = known.length ? known[Math.floor(0.99 * (known.length - 1))] : 1;
    tops.set(index, top > 0 ? top : Math.max(known[known.length - 1] || 0, 1));
  }
  return tops.get(index);
}

export const usualColors = (entry) => (entry.kind === "group" || entry.kind === "member" ? "inferno" : entry.kind === "state" ? "states" : entry.kind === "cluster" ? "clusters" : "viridis");

export function paint(pixels, values, table, top, threshold = 0) {
  const last = table.length - 1;
  const scale = last / top;
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at];
    pixels[at] = value !== value ? NO_ANSWER : table[value < threshold ? 0 : Math.max(0, Math.min(last, (value * scale) | 0))];
  }
}

// Draws the sum of the colours of several maps.
export function paintComposite(pixels, parts) {
  const colors = parts.map(({ color }) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
  for (let at = 0; at < pixels.length; at += 1) {
    let [red, green, blue] = [0, 0, 0];
    let missing = false;
    for (let number = 0; number < parts.length; number += 1) {
      const value = parts[number].values[at];
      if (value !== value) { missing = true; break; }
      const share = Math.max(0, Math.min(1, value / parts[number].top));
      red += share * colors[number][0];
      green += share * colors[number][1];
      blue += share * colors[number][2];
    }
    pixels[at] = missing ? NO_ANSWER : 0xff000000 | (Math.min(255, blue) << 16) | (Math.min(255, green) << 8) | Math.min(255, red);
  }
}

export function pictureOf(width, height, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  fill(new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
  return canvas;
}
