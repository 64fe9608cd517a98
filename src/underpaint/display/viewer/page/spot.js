// Evidence at a pixel: probabilities, lines for and against each group, pigments that X-rays cannot distinguish.
import { askJson, byId, certainty, followed, guarded, lineName, make, number, progressed, shortName, thousands } from "./base.js";
import { CANNOT_EXCLUDE } from "./maps.js";

const meter = (value) => make("meter", { min: 0, max: 1, value: value ?? 0, "aria-hidden": "true" });

export function showSpot(app, found) {
  const place = byId("spot");
  const step = app.about.step_mm;
  const where = `row ${found.row}, column ${found.column}${step ? ` · ${number(found.row * step[0])} × ${number(found.column * step[1])} mm` : ""}`;
  const strong = found.groups.filter((own) => own.lines);
  const rest = found.groups.filter((own) => !own.lines);
  place.replaceChildren(...[
    make("h2", {}, where),
    found.scan.state === "missing" ? make("p", { className: "note" }, found.scan.why) : null,
    found.scan.state === "closed" ? make("p", { className: "note" }, "Its spectrum is in the scan, which is not open. ", app.scanButton(found.scan.path)) : null,
    found.unlike ? make("p", { className: "note" }, `Unassigned peak near ${number(found.unlike.energy_kev)} keV (${found.unlike.sigma.toFixed(0)} σ). Do not trust the pigments below until it is explained.`) : null,
    inShort(app, found.groups),
    ...strong.map((own) => card(app, own)),
    strong.length ? null : make("p", { className: "empty" }, found.groups.length ? "No pigment reaches a probability of 0.1 here." : "These results hold no pigments, only elements."),
    quantities(found.quantities),
    elements(app, found.elements),
    rest.length ? make("details", {}, make("summary", {}, `${rest.length} others, less likely`),
      make("ul", { className: "plain" }, ...rest.map((own) => make("li", {}, `${own.label}: ${own.answer || certainty(own.probability)}`)))) : null,
    layers(app, found),
  ].filter(Boolean));
}

// As underpaint.data.maps.PLACED_PROBABILITY: from it a place is stated.
const PLACED = 0.75;

// Groups by depth, each with its probability: the question that most people come with.
function inShort(app, groups) {
  const named = (wanted, value) => groups.filter(wanted).map((own) => (value ? `${shortName(own)} (${certainty(value(own))})` : shortName(own))).join(", ");
  const held = (where) => named((own) => (own.places[where] ?? 0) >= PLACED, (own) => own.places[where]);
  const said = ["surface", "below"].filter((where) => groups.some((own) => where in own.places))
    .map((where) => make("p", {}, make("b", {}, `${app.placeWords[where]}: `), held(where) || `no group with a probability of ${PLACED} or more`));
  if (!said.length) return null;
  const anywhere = named((own) => own.probability >= PLACED && !Object.values(own.places).some((value) => value >= PLACED), (own) => own.probability);
  const unknown = named((own) => own.state === CANNOT_EXCLUDE);
  return make("div", { className: "short" }, ...said,
    anywhere ? make("p", {}, make("b", {}, "Present, depth undetermined: "), anywhere) : null,
    unknown ? make("p", {}, make("b", {}, "Cannot be excluded: "), unknown) : null,
    app.about.hiding ? null : make("p", { className: "quiet" }, "Whether a pigment could be hidden here was not assessed, because the instrument is unknown: a pigment that is not named is not proven absent. Run the scan again with the instrument chosen on the start page."),
    make("p", { className: "quiet" }, "In brackets: probability at that depth."));
}

// Expected lines that are missing; a line without a map counts neither for nor against.
function against(own) {
  const lacking = own.lines.filter((line) => !line.there);
  if (lacking.length) return lacking.map((line) => `${lineName(line.family)} is not above 3 σ (${thousands(line.counts)} ± ${thousands(line.error ?? 0)} counts)`).join("; ");
  if (!own.lines.length) return "unknown, none of its lines was measured";
  return own.unmeasured.length ? "nothing: all measured lines are present" : "nothing: all expected lines are present";
}

function card(app, own) {
  const there = own.lines.filter((line) => line.there);
  const places = Object.entries(own.places);
  return make("section", { className: "card" },
    make("h3", {}, make("button", { type: "button", className: "link", title: "Show its map", onclick: () => app.showNamed(own.name) }, own.label),
      make("span", { className: "value" }, certainty(own.probability))),
    meter(own.probability),
    ...places.map(([where, value]) => make("p", {}, make("button", { type: "button", className: "link plain", title: "Show its map there", onclick: () => app.showPlace(own.name, where) }, app.placeWords[where] || where), `: ${certainty(value)}`)),
    own.share && own.share.value !== null && (own.places.surface ?? 0) > 0.5 ? make("p", { title: "Shares are estimated one by one, and a pigment of two groups counts in both: they may add up to more than 1." }, `share of the pigments at the surface: ${estimate(own.share)}`) : null,
    own.answer ? make("p", { className: own.state === CANNOT_EXCLUDE ? "note" : "" }, make("b", {}, "Answer: "), own.answer) : null,
    own.amount && own.amount.value !== null ? make("p", { title: "Mass fraction of the element in the dry paint of any one layer." }, `amount: ${estimate(own.amount)}`) : null,
    make("p", {}, make("b", {}, "For it: "), there.length ? there.map((line) => `${lineName(line.family)} ${thousands(line.counts)} counts (${line.sigma.toFixed(0)} σ)`).join("; ") : own.lines.length ? "no line detected" : "none of its lines was measured"),
    make("p", {}, make("b", {}, "Against it: "), against(own)),
    own.unmeasured.length ? make("p", { className: "quiet" }, `Without a map: ${own.unmeasured.map(lineName).join(", ")}.`) : null,
    own.alike.length > 1 ? make("details", {}, make("summary", {}, `One of ${own.alike.length} pigments; X-rays do not tell apart those of the same elements`),
      make("ul", { className: "plain" }, ...(own.members.length ? own.members.map((member) => make("li", {}, own.members.length > 1 ? `${member.label}: ${certainty(member.probability)}` : `${member.label}, the only one in the palette`)) : own.alike.map((label) => make("li", {}, label)))),
      own.left_out.length ? make("p", { className: "note" }, `Not in the palette, or unknown to the network, yet possible: ${own.left_out.join(", ")}.`) : null,
      own.members.length > 1 ? make("p", { className: "quiet" }, "These numbers rest on a prior, even among those of the same elements, more than on the spectrum.") : null,
      own.apart ? make("p", {}, own.apart) : null) : null,
    app.statements.shown("group", own.name));
}

function estimate(own) {
  if (own.low === 0) return `under ${number(own.high, own.unit)} (90 %)`;
  if (own.low !== undefined && own.low !== null) return `${number(own.value, own.unit)} (90 % interval ${number(own.low)} to ${number(own.high, own.unit)})`;
  return `${number(own.value, own.unit)}${own.error ? ` ± ${number(own.error, own.unit)}` : ""}`;
}

function quantities(found) {
  const known = found.filter((own) => own.value !== null);
  if (!known.length) return null;
  return make("section", { className: "card" }, make("h3", {}, "Quantities"), make("ul", { className: "plain" },
    ...known.map((own) => make("li", {}, `${shortName(own)}: ${estimate(own)}`))));
}

function elements(app, found) {
  const seen = found.filter((own) => own.there);
  if (!found.length) return null;
  return make("section", { className: "card" }, make("h3", {}, "Elements over 3 σ"),
    seen.length ? make("table", {}, make("tbody", {}, ...seen.map((own) => make("tr", {}, make("th", { scope: "row" }, lineName(own.name)),
      make("td", {}, `${thousands(own.counts)} ± ${thousands(own.error ?? 0)}`), make("td", {}, `${own.sigma.toFixed(0)} σ`), make("td", {}, app.statements.button("line", own.name, "Correct …")))))) : make("p", { className: "empty" }, "None."),
    ...seen.flatMap((own) => app.statements.of("line", own.name).map((each) => make("p", { className: "note" }, make("b", {}, `Expert on ${lineName(own.name)}: `), app.statements.words(each)))));
}

// Sampling layers takes seconds to minutes, and runs beside the page.
function layers(app, found) {
  const said = make("div");
  const button = make("button", { type: "button", disabled: found.scan.state !== "ready" }, "Which layers could this be?");
  button.onclick = guarded(async () => {
    const { run, instrument } = await askJson("explain", { method: "POST", json: { row: found.row, column: found.column } });
    const stop = make("button", { type: "button", onclick: () => askJson(`run?run=${run}`, { method: "DELETE" }) }, "Stop");
    button.disabled = true;
    said.replaceChildren(stop);
    try {
      const now = await followed(run, (own) => { said.replaceChildren(make("p", { role: "status" }, progressed(own)), stop); said.scrollIntoView({ block: "nearest" }); }, () => said.isConnected);
      const note = app.about.instrument ? null : make("p", { className: "note" }, `The instrument is unknown: "${instrument}" is assumed.`);
      said.replaceChildren(...[note, now.result ? make("ul", {}, ...now.result.words.map((text) => make("li", {}, text))) : make("p", { className: "note" }, now.error || now.step)].filter(Boolean));
      said.scrollIntoView({ block: "nearest" });
    } finally { button.disabled = false; }
  });
  return make("section", { className: "card" }, make("h3", {}, "Layers"),
    make("p", { className: "quiet" }, "Layers, pigments and thicknesses are sampled in two independent runs; only what both give is stated. This takes half a minute."), button, said);
}
