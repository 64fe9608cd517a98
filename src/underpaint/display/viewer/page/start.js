// Start page: choose scans, show their content, run a queue, open results.
import { ask, askJson, byId, guarded, inProgress, lowestCounts, make, number, progressed, say, thousands, themed } from "./base.js";
import { HandCalibration } from "./calibration.js";
import { PaletteEditor, paletteOptions } from "./palette.js";

const EVERY_MS = 400;
const TICKS_KEV = 5;
const PIECE_BYTES = 16 * 2 ** 20;
const SETTINGS = ["instrument", "palette", "model"];
const SIGNS = { results: "▦", folder: "▸", scan: "◆", settings: "⚙" };
const chosen = new Map(); // by path: content and settings of each chosen scan
const trusted = new Set(); // instrument files that were calibrated by hand on this page
let current = null;
let place = "";
let palettes = [];
let editor = null;
let byHand = null;
let queued = [];

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);
const nameOf = (path) => path.split(/[/\\]/).filter(Boolean).pop() || path;
const sign = (kind) => make("span", { "aria-hidden": "true" }, SIGNS[kind]);
const row = (kind, words, onclick, ...aside) => make("button", { type: "button", onclick }, sign(kind), make("span", {}, words), make("span", { className: "size" }, ...aside));

// Files

const list = guarded(async (path) => {
  if (!byId("files").children.length) byId("files").replaceChildren(make("li", { className: "empty" }, "Reading the folder …"));
  const listed = await askJson(`list?path=${encodeURIComponent(path)}`);
  place = listed.path;
  byId("path").value = listed.path;
  byId("up").onclick = () => list(listed.parent);
  byId("roots").replaceChildren(...(listed.roots.length > 1 ? listed.roots.map((root) => make("button", { type: "button", onclick: () => list(root) }, root)) : []));
  const order = { results: 0, scan: 1, settings: 2, folder: 3 };
  const shown = listed.entries.filter((entry) => entry.kind !== "file").sort((a, b) => order[a.kind] - order[b.kind]);
  const rows = shown.map(fileRow);
  if (listed.scan) rows.unshift(fileRow({ kind: "scan", path: listed.path, name: "This folder is one scan", words: listed.folded ? `${thousands(listed.folded)} spectra` : "a file for each pixel" }));
  if (listed.results) rows.unshift(make("li", {}, row("results", "Open the results in this folder", () => open(listed.path))));
  byId("files").replaceChildren(...(rows.length ? rows : [make("li", { className: "empty" }, "No scans, results or folders here.")]));
});

function fileRow(entry) {
  const aside = entry.words || (entry.kind === "results" ? "results" : entry.folder ? (entry.kind === "scan" ? "folder, one scan" : "folder") : size(entry.bytes));
  const item = make("li", { "data-path": entry.path }, row(entry.kind, entry.name, () => pick(entry), aside));
  if (entry.kind === "scan") {
    item.prepend(make("input", { type: "checkbox", checked: chosen.has(entry.path), "aria-label": `Choose ${entry.name}, too`, onchange: (event) => (event.target.checked ? look(entry.path) : drop(entry.path)) }));
    if (entry.folder) item.append(make("button", { type: "button", className: "aside", "aria-label": `Open the folder ${entry.name}`, onclick: () => list(entry.path) }, "▸"));
  }
  return item;
}

// Arrow keys move from row to row.
function moveByArrow(event) {
  const rows = [...byId("files").querySelectorAll("li > button:not(.aside)")];
  const at = rows.indexOf(event.target.closest("li")?.querySelector("button:not(.aside)"));
  const next = rows[at + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] || NaN)];
  if (at < 0 || !next) return;
  next.focus();
  event.preventDefault();
}

const pick = (entry) => ({ results: open, folder: list, settings: selectSettings, scan: lookAlone })[entry.kind](entry.path);

const open = guarded(async (folder) => {
  forget();
  const { address } = await askJson("open", { method: "POST", json: { folder } });
  location.href = address;
});

// Selects the instrument or palette of a file for the next runs.
const selectSettings = guarded(async (path) => take(await askJson(`kind?path=${encodeURIComponent(path)}`)));

function take(entry) {
  if (entry.kind === "palette") {
    palettes = [...palettes.filter((palette) => palette.name !== entry.name), entry];
    editor.palettes = palettes;
    fillPalettes();
  } else if (![...byId("instrument").options].some((option) => option.value === entry.name)) byId("instrument").append(make("option", { value: entry.name }, entry.label));
  byId(entry.kind).value = entry.name;
  say(`${entry.kind === "palette" ? "Palette" : "Instrument"}: ${entry.label}`);
}

const fillPalettes = () => byId("palette").replaceChildren(make("option", { value: "" }, "all pigments"), ...paletteOptions(palettes));

// Scans

const lookAlone = (path) => { forget(); return look(path); };

// Settings apply to scans that are chosen together, but not to scans chosen later.
function forget() {
  for (const path of [...chosen.keys()]) drop(path);
  for (const name of SETTINGS) byId(name).selectedIndex = 0;
}

function drop(path) {
  const scan = chosen.get(path);
  if (scan?.run && !scan.result) askJson(`run?run=${scan.run}`, { method: "DELETE" }).catch(() => {});
  chosen.delete(path);
  if (current === path) current = [...chosen.keys()].pop() ?? null;
  show();
}

// Reads the content of a scan, and reads it again if another detector is chosen.
const look = guarded(async (path, detector = "") => {
  const scan = { path, detector, step: chosen.get(path)?.step || "", shape: chosen.get(path)?.shape || "", result: null, fault: "" };
  chosen.set(path, scan);
  current = path;
  show();
  byId("held").scrollIntoView({ block: "nearest" });
  let now = await askJson("run", { method: "POST", json: { what: "look", scan: path, detector, shape: scan.shape } }).catch((error) => ({ state: "failed", error: error.message }));
  while (inProgress(now)) {
    if (chosen.get(path) !== scan) { await askJson(`run?run=${now.run}`, { method: "DELETE" }); return; }
    [scan.run, scan.progress] = [now.run, progressed(now)];
    if (current === path) words(scan);
    await new Promise((wake) => { setTimeout(wake, EVERY_MS); });
    now = await askJson(`run?run=${now.run}`);
  }
  if (now.state === "done") Object.assign(scan, { result: now.result, detector: now.result.detector });
  else scan.fault = now.error || "Cancelled.";
  if (chosen.get(path) === scan) show();
});

const ready = () => [...chosen.values()].filter((scan) => scan.result);

function show() {
  const scan = chosen.get(current);
  for (const item of byId("files").children) {
    const box = item.querySelector("input");
    if (box) box.checked = chosen.has(item.dataset.path);
    item.classList.toggle("current", item.dataset.path === current);
  }
  byId("held").hidden = !scan;
  byId("run").hidden = !ready().length;
  if (!scan) return;
  byId("chosen").replaceChildren(...(chosen.size < 2 ? [] : [...chosen.values()].map((each) => make("button", { type: "button", "aria-pressed": String(each === scan), className: each.fault ? "fault" : "", onclick: () => { current = each.path; show(); } }, nameOf(each.path), each.fault ? " (cannot be read)" : each.result ? "" : " …"))));
  words(scan);
  byId("scan-fields").hidden = !scan.result && !scan.fault;
  for (const id of ["detector-field", "step-field"]) byId(id).hidden = !scan.result;
  byId("shape").value = scan.shape;
  byId("by-hand").hidden = !scan.result;
  byId("held-plot").replaceChildren();
  byId("shape-field").hidden = false;
  if (scan.result) fields(scan);
  summary();
}

function words(scan) {
  const area = byId("held-words");
  if (scan.fault) {
    // For a file with several scans, the message names each scan as FILE::NAME.
    const parts = scan.fault.split(`${scan.path}::`).slice(1).map((rest) => rest.split(/[\s;,]/)[0].replace(/[.)]+$/, "")).filter(Boolean);
    area.replaceChildren(make("p", { className: "note" }, scan.fault), make("p", { className: "buttons" }, ...[...new Set(parts)].map((part) => make("button", { type: "button", onclick: () => lookAlone(`${scan.path}::${part}`) }, `Choose ${part}`))));
    return;
  }
  if (!scan.result) { area.replaceChildren(make("p", {}, scan.progress || "Starting … "), make("button", { type: "button", onclick: () => drop(scan.path) }, "Cancel")); return; }
  const content = scan.result;
  const { found: families, anode, gain_kev: gain, zero_kev: zero, notes } = content.calibration;
  const facts = [
    ["File", scan.path], ["Format", content.format],
    ["Size", `${content.shape[0]} rows × ${content.shape[1]} columns, ${thousands(content.shape[2])} channels`],
    ["Counts", `${thousands(content.total_counts)} in all, ${thousands(content.mean_pixel_counts)} a pixel${content.n_missing ? `; ${content.n_missing} pixels missing` : ""}`],
    ["Energy axis", gain ? `${(1000 * gain).toFixed(3)} eV a channel, channel 0 at ${zero.toFixed(3)} keV` : "not known: calibrate by hand, or choose the instrument below"],
    ["Lines", families.map((family) => family.replace("_", " ")).join(", ") || "none confirm the axis: calibrate by hand, or choose the instrument below"],
    ["Tube", anode ? `${anode} anode, detected by its scattered lines` : "anode not detected"],
  ];
  area.replaceChildren(make("dl", { className: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
    ...[...content.notes, ...notes].map((note) => make("p", { className: "note" }, note)));
}

function fields(scan) {
  const content = scan.result;
  byId("detector-field").hidden = content.detectors.length < 2;
  byId("detector").replaceChildren(make("option", { value: "" }, `all ${content.detectors.length}, added`), ...content.detectors.map((each) => make("option", { value: each.name }, `only ${each.name}`)));
  byId("detector").value = scan.detector;
  byId("step").value = scan.step;
  byId("step").placeholder = content.step_mm ? `${number(content.step_mm[0])}x${number(content.step_mm[1])}, by the file` : "not in the file";
  byId("shape-field").hidden = content.shape[0] > 1 && content.shape[1] > 1 && !scan.shape;
  byId("held-plot").replaceChildren(sketch(content.sum, content.calibration));
  byHand.show(Object.assign(scan, { sum: content.sum, peaks: content.peaks, calibration: content.calibration, n_pixel: content.shape[0] * content.shape[1] - content.n_missing }));
}

// Text of section 3: number of scans, and folders of the results.
function summary() {
  const scans = ready();
  const finished = scans.filter((scan) => scan.result.finished);
  byId("out").textContent = `The results go to ${scans.map((scan) => scan.result.out).join(", ")}`;
  byId("replace-line").hidden = !finished.length;
  byId("actions").replaceChildren(
    make("button", { type: "button", className: "primary", id: "start-run", onclick: start }, scans.length > 1 ? `Find the pigments in ${scans.length} scans` : "Find the pigments"),
    ...(scans.length === 1 && finished.length ? [make("button", { type: "button", onclick: () => open(scans[0].result.out) }, "Open the results that are there")] : []));
}

// Shows the axis set by hand with the scan, and selects the saved instrument for the run.
function calibrated(entry, scan) {
  scan.result.calibration = { gain_kev: entry.gain_kev, zero_kev: entry.zero_kev, found: entry.found, anode: entry.anode, notes: [`Calibrated by hand, saved as ${entry.name}. ${entry.notes.join(" ")}`] };
  trusted.add(entry.name);
  take(entry);
  list(place);
  show();
}

// The queue

const start = guarded(async () => {
  const scans = ready();
  const finishedScan = scans.find((scan) => scan.result.finished);
  if (finishedScan && !byId("replace").checked) throw new Error(`There are results in ${finishedScan.result.out} already. Tick “replace the results that are there”, or open them.`);
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, byId(name).value]));
  const faults = [];
  for (const scan of scans) {
    const job = { what: "identify", scan: scan.path, out: scan.result.out, detector: scan.detector, step: scan.step, shape: scan.shape, overwrite: byId("replace").checked, trust_instrument: trusted.has(settings.instrument), ...settings };
    try { await askJson("run", { method: "POST", json: job }); drop(scan.path); } catch (error) { faults.push(error.message); }
  }
  byId("replace").checked = false;
  await follow();
  if (faults.length) say(faults.join(" "), { lasting: true });
  else byId("queue-title").focus(); // the focused button was removed
});

let following = null;
const follow = () => { following ??= followQueue().finally(() => { following = null; }); return askQueue(); };

async function askQueue() {
  queued = (await askJson("queue")).runs;
  queue();
}

async function followQueue() {
  for (let lost = 0; lost < 20;) {
    try { await askQueue(); lost = 0; } catch (error) { lost += 1; if (lost === 20) say(error.message, { lasting: true }); }
    if (!lost && !queued.some(inProgress)) return;
    await new Promise((wake) => { setTimeout(wake, EVERY_MS); });
  }
}

function queue() {
  byId("queue-sheet").hidden = !queued.length;
  const ended = queued.filter((run) => !inProgress(run)).length;
  document.title = queued.length && ended < queued.length ? `(${ended} of ${queued.length}) underpaint` : "underpaint";
  const items = byId("queue");
  for (const run of queued) {
    const item = items.querySelector(`[data-run="${run.run}"]`) || items.appendChild(make("li", { "data-run": run.run }));
    if (item.dataset.state === run.state && !inProgress(run)) continue;
    if (run.state === "done" && item.dataset.state && document.activeElement !== byId("path")) list(place);
    if (item.dataset.state !== run.state) frame(item, run);
    item.querySelector(".step").textContent = { done: `Done in ${Math.round(run.seconds)} s`, cancelled: "Cancelled. No incomplete results remain.", failed: "Failed" }[run.state] || progressed(run);
    const bar = item.querySelector("progress");
    if (bar && run.total > 1) { bar.max = run.total; bar.value = run.done; } else bar?.removeAttribute("value");
  }
}

// Draws the parts of a run's entry that change only with its state. Buttons under the pointer thus remain during progress.
function frame(item, run) {
  item.dataset.state = run.state;
  const { scan, detector, palette } = run.job;
  const name = [nameOf(scan), detector && `detector ${detector}`, palette && `palette ${nameOf(palette).replace(/\.toml$/, "")}`].filter(Boolean).join(", ");
  const note = (text) => make("p", { className: "note" }, text);
  const buttons = inProgress(run)
    ? [make("button", { type: "button", "aria-label": `Cancel ${name}`, onclick: guarded(async () => { await ask(`run?run=${run.run}`, { method: "DELETE" }); await askQueue(); }) }, "Cancel")]
    : run.state === "done" ? [make("button", { type: "button", className: "primary", "aria-label": `Open the results of ${name}`, onclick: () => open(run.result.folder) }, "Open")] : [];
  item.replaceChildren(make("span", { className: "name" }, name), make("span", { className: "step" }), make("span", { className: "buttons" }, ...buttons),
    ...(run.state === "running" ? [make("progress", { "aria-label": `Progress of ${name}` })] : []),
    ...(run.error ? [note(run.error)] : []), ...(run.state === "done" ? [run.result.aside, ...run.result.alerts].filter(Boolean).map(note) : []));
}

// Uploads

const upload = guarded(async (files) => {
  const folder = place;
  const paths = [];
  for (const file of files) paths.push(await send(file, folder));
  await list(folder);
  const sent = new Set(paths.filter(Boolean));
  for (const item of byId("files").children) if (sent.has(item.dataset.path)) { const box = item.querySelector("input"); if (box) box.click(); else item.querySelector("button").click(); }
});

// Uploads a file in pieces. Resolves to the path of the file, or to null after a failure.
async function send(file, folder) {
  const bar = make("progress", { max: file.size || 1, value: 0, "aria-label": `Upload of ${file.name}` });
  const step = make("span", { className: "step" }, size(file.size));
  let cancelled = false;
  const buttons = make("span", { className: "buttons" }, make("button", { type: "button", "aria-label": `Cancel the upload of ${file.name}`, onclick: () => { cancelled = true; } }, "Cancel"));
  const item = make("li", {}, make("span", { className: "name" }, file.name), step, buttons, bar);
  byId("uploads").append(item);
  const failed = (text) => { item.replaceChildren(make("p", { className: "note" }, text), make("span", { className: "buttons" }, make("button", { type: "button", "aria-label": "Close", onclick: () => item.remove() }, "×"))); return null; };
  try {
    let now = await askJson("upload", { method: "POST", json: { folder, name: file.name, size: file.size } });
    for (let piece = 0; !now.complete; piece += 1) {
      if (cancelled) { await ask(`upload/${now.upload}`, { method: "DELETE" }); return failed(`${file.name}: cancelled; no data remain.`); }
      now = await askJson(`upload/${now.upload}?piece=${piece}`, { method: "POST", body: file.slice(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES) });
      bar.value = now.bytes;
    }
    item.remove();
    return now.path;
  } catch (error) { return failed(error.message); }
}

function receiveDrops() {
  const files = (event) => [...event.dataTransfer.types].includes("Files");
  const over = (event) => { if (files(event)) { event.preventDefault(); document.body.classList.add("dropping"); } };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!files(event)) return;
    event.preventDefault();
    const folders = [...event.dataTransfer.items].filter((entry) => entry.webkitGetAsEntry?.()?.isDirectory).length;
    if (folders) say("A folder cannot be dropped here. Drop its files, or open the folder in the list above.", { lasting: true });
    else upload([...event.dataTransfer.files]);
  });
  byId("upload").addEventListener("click", () => byId("upload-files").click());
  byId("upload-files").addEventListener("change", async () => { await upload([...byId("upload-files").files]); byId("upload-files").value = ""; });
}

function sketch(counts, axis) {
  const [width, height] = [900, 190];
  const canvas = make("canvas", { width, height, role: "img", "aria-label": "Sum of all spectra, logarithmic" });
  canvas.style.width = "100%";
  canvas.style.height = "100%";
  const context = canvas.getContext("2d");
  const [ink, quiet] = ["--sum", "--quiet"].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name));
  const top = Math.log10(Math.max(...counts, 10));
  const low = Math.log10(lowestCounts(counts));
  let last = counts.length - 1;
  while (last > 10 && !(counts[last] > 0)) last -= 1;
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.beginPath();
  for (let at = 0; at <= last; at += 1) context.lineTo((at / last) * width, (height - 22) * Math.min(1, (top - Math.log10(Math.max(counts[at], 1))) / Math.max(top - low, 1)) + 2);
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

const begin = guarded(async () => {
  themed(byId("theme"), show);
  const choices = await askJson("choices");
  const fill = (id, first, all) => byId(id).replaceChildren(...(first ? [make("option", { value: "" }, first)] : []), ...all.map((each) => make("option", { value: each.name }, each.label)));
  fill("instrument", "Detect from the spectrum", choices.instruments);
  fill("model", "", choices.models.map((name) => ({ name, label: name })));
  palettes = choices.palettes;
  fillPalettes();
  editor = new PaletteEditor(palettes, choices.pigments, take);
  byHand = new HandCalibration(choices.lines, calibrated);
  byId("edit-palette").addEventListener("click", () => editor.open(byId("palette").value));
  byId("detector").addEventListener("change", () => look(current, byId("detector").value));
  byId("shape").addEventListener("change", () => { chosen.get(current).shape = byId("shape").value.trim(); look(current, byId("detector").value); });
  byId("step").addEventListener("change", () => { chosen.get(current).step = byId("step").value.trim(); });
  byId("recent-sheet").hidden = !choices.recent.length;
  byId("recent").replaceChildren(...choices.recent.map((each) => make("li", {}, row("results", each.name, () => open(each.folder), each.place))));
  receiveDrops();
  byId("files").addEventListener("keydown", moveByArrow);
  byId("go").addEventListener("submit", guarded(async (event) => {
    event.preventDefault();
    const path = byId("path").value.trim();
    const typed = await askJson(`kind?path=${encodeURIComponent(path)}`).catch((error) => { forget(); throw error; });
    await list(typed.kind === "folder" ? path : typed.folder);
    if (typed.kind === "scan") await lookAlone(path);
    else if (typed.kind !== "folder") take(typed);
  }));
  await list("");
  await follow();
  document.body.dataset.ready = "start";
});
begin();
