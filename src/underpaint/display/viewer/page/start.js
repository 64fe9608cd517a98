// The start page: choose a scan, see what it holds, run it, watch and cancel, open results.
import { askJson, byId, guarded, inProgress, make, number, say, thousands, themed } from "./base.js";

const EVERY_MS = 400;
const TICKS_KEV = 5;
let chosen = null;
let running = null;
let identifying = false;

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);
const SIGNS = { results: "▦", folder: "▸", scan: "◆", file: "·" };

const list = guarded(async (path) => {
  const found = await askJson(`list?path=${encodeURIComponent(path)}`);
  forget();
  byId("path").value = found.path;
  byId("up").onclick = () => list(found.parent);
  const order = { results: 0, scan: 1, folder: 2 };
  const shown = found.entries.filter((own) => own.kind !== "file").sort((a, b) => order[a.kind] - order[b.kind]);
  byId("files").replaceChildren(...shown.map((own) => make("li", {}, make("button", { type: "button", onclick: () => pick(own) },
    make("span", { "aria-hidden": "true" }, SIGNS[own.kind]), make("span", {}, own.name),
    make("span", { className: "size" }, own.kind === "results" ? "results" : own.kind === "folder" ? "folder" : size(own.bytes))))));
  if (own_folder(found)) byId("files").prepend(make("li", {}, make("button", { type: "button", onclick: () => look(found.path) }, make("span", {}, "◆"), make("span", {}, "This folder is one scan (a file for each pixel)"))));
  if (found.results) byId("files").prepend(make("li", {}, make("button", { type: "button", onclick: () => open(found.path) }, make("span", { "aria-hidden": "true" }, SIGNS.results), make("span", {}, "Open the results in this folder"))));
  if (!byId("files").children.length) byId("files").replaceChildren(make("li", { className: "empty" }, "No scans, results or folders here."));
});

// What was found out of one scan does not stand beside another; while pigments are looked for, it stays.
function forget() {
  if (identifying) return;
  chosen = null;
  byId("held").hidden = true;
  byId("run").hidden = true;
}

// A folder of single spectra is a scan as a whole.
const own_folder = (found) => found.entries.filter((own) => own.kind === "scan").length > 50;

const pick = (own) => (own.kind === "results" ? open(own.path) : own.kind === "folder" ? list(own.path) : look(own.path));

const open = guarded(async (folder) => {
  forget();
  const { address } = await askJson("open", { method: "POST", json: { folder } });
  location.href = address;
});

async function follow(job, told) {
  let now = await askJson("run", { method: "POST", json: job });
  running = now.run;
  while (inProgress(now)) {
    told(now);
    await new Promise((wake) => { setTimeout(wake, EVERY_MS); });
    now = await askJson(`run?run=${now.run}`);
  }
  running = null;
  return now;
}

const stop = () => (running ? askJson(`run?run=${running}`, { method: "DELETE" }) : null);

const look = guarded(async (path) => {
  if (identifying) throw new Error("Pigments are being looked for. Wait until that is done, or cancel it below.");
  await stop();
  // What was told of one scan need not hold for the next.
  if (chosen !== path) for (const name of ["instrument", "palette", "model"]) byId(name).selectedIndex = 0;
  chosen = path;
  byId("held").hidden = false;
  byId("run").hidden = true;
  byId("held-plot").replaceChildren();
  byId("held").scrollIntoView({ block: "nearest" });
  const told = (now) => byId("held-words").replaceChildren(make("p", {}, `${now.step} … ${Math.round(now.seconds)} s `), make("button", { type: "button", onclick: stop }, "Cancel"));
  const now = await follow({ what: "look", scan: path }, told);
  if (chosen !== path) return;
  if (now.state !== "done") { byId("held-words").replaceChildren(make("p", { className: "note" }, now.error || "Cancelled.")); return; }
  const own = now.result;
  const facts = [
    ["File", path], ["Format", own.format],
    ["Size", `${own.shape[0]} rows × ${own.shape[1]} columns, ${thousands(own.shape[2])} channels`],
    ["Step", own.step_mm ? `${number(own.step_mm[0])} × ${number(own.step_mm[1])} mm` : "not in the file"],
    ["Counts", `${thousands(own.total_counts)} in all, ${thousands(own.mean_pixel_counts)} a pixel${own.n_missing ? `; ${own.n_missing} pixels missing` : ""}`],
    ["Lines", own.calibration.found.map((family) => family.replace("_", " ")).join(", ") || "none found: choose the instrument below"],
    ["Tube", own.calibration.anode ? `${own.calibration.anode} anode, seen in the scattered lines` : "anode not seen"],
  ];
  byId("held-words").replaceChildren(make("dl", { className: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
    ...[...own.notes, ...own.calibration.notes].map((note) => make("p", { className: "note" }, note)));
  byId("held-plot").replaceChildren(sketch(own.sum, own.calibration));
  byId("run").hidden = false;
  byId("out").textContent = `The results go to ${own.out}`;
  byId("replace-line").hidden = !own.finished;
  byId("replace").checked = false;
  actions(own);
});

function sketch(counts, axis) {
  const [width, height] = [900, 190];
  const canvas = make("canvas", { width, height, role: "img", "aria-label": "Sum of all spectra, logarithmic" });
  canvas.style.width = "100%";
  canvas.style.height = "100%";
  const context = canvas.getContext("2d");
  const [ink, quiet] = ["--sum", "--quiet"].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name));
  const top = Math.log10(Math.max(...counts, 10));
  let last = counts.length - 1;
  while (last > 10 && !(counts[last] > 0)) last -= 1;
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.beginPath();
  for (let at = 0; at <= last; at += 1) context.lineTo((at / last) * width, (height - 22) * (1 - Math.log10(Math.max(counts[at], 1)) / top) + 2);
  context.stroke();
  if (axis.gain_kev) ticks(context, [width, height], quiet, axis, last);
  return canvas;
}

function ticks(context, [width, height], color, axis, last) {
  context.fillStyle = color;
  context.strokeStyle = color;
  context.lineWidth = 1;
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  const at = (kev) => ((kev - axis.zero_kev) / axis.gain_kev / last) * width;
  context.beginPath();
  for (let kev = Math.ceil(axis.zero_kev); at(kev) <= width; kev += 1) {
    context.moveTo(at(kev), height - 20);
    context.lineTo(at(kev), height - (kev % TICKS_KEV ? 17 : 14));
    const text = `${kev} keV`;
    const half = context.measureText(text).width / 2;
    if (kev % TICKS_KEV === 0 && at(kev) > half && at(kev) < width - half) context.fillText(text, at(kev), height - 2);
  }
  context.stroke();
}

function actions(own) {
  byId("progress").hidden = true;
  byId("actions").replaceChildren(
    make("button", { type: "button", className: "primary", id: "start-run", onclick: () => run(own) }, "Find the pigments"),
    ...(own.finished ? [make("button", { type: "button", onclick: () => open(own.out) }, "Open the results that are there")] : []));
}

const run = guarded(async (own) => {
  const path = chosen;
  if (own.finished && !byId("replace").checked) throw new Error(`There are results in ${own.out} already. Tick “replace the results that are there”, or open them.`);
  byId("progress").hidden = false;
  identifying = true;
  byId("actions").replaceChildren(make("button", { type: "button", id: "cancel-run", onclick: stop }, "Cancel"));
  const told = (now) => {
    byId("step").textContent = `${now.step}${now.total > 1 ? `, ${now.done} of ${now.total}` : ""} … ${Math.round(now.seconds)} s`;
    if (now.total > 1) { byId("bar").max = now.total; byId("bar").value = now.done; } else byId("bar").removeAttribute("value");
  };
  const now = await follow({ what: "identify", scan: path, instrument: byId("instrument").value, palette: byId("palette").value, model: byId("model").value, overwrite: byId("replace").checked }, told).finally(() => { identifying = false; });
  actions(now.state === "done" ? { ...own, finished: true } : own);
  if (now.state === "done" && now.result.aside) say(now.result.aside, { lasting: true });
  else if (now.state === "done") await open(now.result.folder);
  else if (now.state === "cancelled") say("Cancelled. No half-made results are left.");
  else say(now.error, { lasting: true });
});

const begin = guarded(async () => {
  themed(byId("theme"));
  const found = await askJson("choices");
  const fill = (id, first, all) => byId(id).replaceChildren(...(first ? [make("option", { value: "" }, first)] : []), ...all.map((own) => make("option", { value: own.name }, own.label)));
  fill("instrument", "not told: found in the spectrum", found.instruments);
  fill("palette", "all pigments", found.palettes);
  fill("model", "", found.models.map((name) => ({ name, label: name })));
  byId("recent-sheet").hidden = !found.recent.length;
  byId("recent").replaceChildren(...found.recent.map((own) => make("li", {}, make("button", { type: "button", onclick: () => open(own.folder) },
    make("span", { "aria-hidden": "true" }, SIGNS.results), make("span", {}, own.name), make("span", { className: "size" }, own.place)))));
  byId("go").addEventListener("submit", guarded(async (event) => {
    event.preventDefault();
    const path = byId("path").value.trim();
    const { kind, folder } = await askJson(`kind?path=${encodeURIComponent(path)}`).catch((error) => { forget(); throw error; });
    await list(kind === "folder" ? path : folder);
    if (kind === "scan") await look(path);
  }));
  await list("");
  document.body.dataset.ready = "start";
});
begin();
