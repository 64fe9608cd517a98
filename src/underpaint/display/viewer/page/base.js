// Shared by all pages: requests to the server, elements, messages, themes, numbers.

export async function ask(path, { method = "GET", json, body } = {}) {
  const answer = await fetch(path, { method, body: json === undefined ? body : JSON.stringify(json) })
    .catch(() => { throw new Error("The viewer does not answer: it was closed, or its machine cannot be reached."); });
  if (answer.ok) return answer;
  let facts = {};
  try { facts = await answer.json(); } catch { /* the answer has no message */ }
  throw Object.assign(new Error(facts.error || `The viewer does not answer (${answer.status}).`), { status: answer.status, facts });
}

export const askJson = async (path, how) => (await ask(path, how)).json();

// Strings are inserted as text nodes, so that names from files cannot become elements.
export function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(facts)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key === "className" ? "class" : key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

let clearing = 0;
export function say(text, { lasting = false, fault = false } = {}) {
  const box = byId("message");
  box.classList.toggle("fault", fault);
  box.replaceChildren(text, make("button", { type: "button", "aria-label": "Close", onclick: () => { box.hidden = true; } }, "×"));
  box.hidden = false;
  clearTimeout(clearing);
  if (!lasting) clearing = setTimeout(() => { box.hidden = true; }, 9000);
}

export const guarded = (action) => async (...parameters) => {
  try { return await action(...parameters); } catch (error) { say(error.message, { fault: true }); return undefined; }
};

export const inProgress = (now) => now.state === "queued" || now.state === "running";

// Follows a run until it ends. onProgress shows the progress. If isWanted returns false, the run is cancelled.
export async function followed(run, onProgress, isWanted = () => true) {
  for (;;) {
    const now = await askJson(`run?run=${run}`);
    if (!inProgress(now)) return now;
    if (!isWanted()) return askJson(`run?run=${run}`, { method: "DELETE" });
    onProgress(now);
    await new Promise((wake) => { setTimeout(wake, 500); });
  }
}

export const progressed = (now) => `${now.step}${now.total > 1 ? ` (${now.done} of ${now.total})` : ""} … ${Math.round(now.seconds)} s `;

export function choosable(tabs, panels, chosen = () => {}) {
  const show = (tab) => {
    for (const button of tabs) {
      const on = button === tab;
      button.setAttribute("aria-selected", on);
      button.tabIndex = on ? 0 : -1;
      const panel = panels(button);
      if (panel) panel.hidden = !on;
    }
    chosen(tab);
  };
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(at + step + tabs.length) % tabs.length];
      show(next);
      next.focus();
      event.preventDefault();
    });
  });
  return show;
}

export function themed(button, changed = () => {}) {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  try { const savedTheme = localStorage.getItem("underpaint-theme"); if (savedTheme) root.dataset.theme = savedTheme; } catch { /* storage is not available */ }
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("underpaint-theme", root.dataset.theme); } catch { /* storage is not available */ }
    changed();
  });
  return dark;
}

// Counts at the lower end of a logarithmic plot. Empty channels are drawn at this height.
export function lowestCounts(counts) {
  const limit = Math.max(...counts) / 1e5;
  return Math.max(1, Math.min(...counts.filter((count) => count > limit)));
}

export const thousands = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
export const percent = (share) => (share >= 0.1 ? `${(100 * share).toFixed(0)} %` : `${(100 * share).toFixed(1)} %`);
export const lineName = (family) => family.replace("_", " ");

// The label without examples: "lead pigment (lead white, red lead, ...), below the surface" is "lead pigment, below the surface".
export const shortName = ({ label }) => label.replace(/ \(.*\)/, "");

export const unitText = (unit) => unit.replace("um", "µm").replace("ug/cm2", "µg/cm²");

// Probabilities are rounded to two decimals, and other values to three significant digits.
export function certainty(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "no answer";
  return value >= 0.995 ? "> 0.99" : value < 0.005 ? "< 0.01" : value.toFixed(2);
}

export const valueText = (entry, value) => (["group", "member"].includes(entry.kind) ? certainty(value) : number(value, entry.unit));

export function number(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "no answer";
  if (unit === "counts") return `${thousands(value)} counts`;
  const text = Math.abs(value) >= 1000 ? thousands(value) : String(Number(value.toPrecision(3)));
  return unit && unit !== "1" ? `${text} ${unitText(unit)}` : text;
}
