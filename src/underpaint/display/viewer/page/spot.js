// Evidence at a pixel: probabilities, lines for and against each group, pigments that X-rays cannot distinguish.
import { askJson, byId, certainty, followed, guarded, lineName, make, number, progressed, shortName, thousands } from "./base.js";
import { CANNOT_EXCLUDE } from "./maps.js";

const meter = (value) => make("meter", { min: 0, max: 1, value: value ?? 0, "aria-hidden": "true" });

export function showSpot(app, spot) {
  const place = byId("spot");
  const step = app.about.step_mm;
  const where = `row ${spot.row}, column ${spot.column}${step ? ` · ${number(spot.row * step[0])} × ${number(spot.column * step[1])} mm` : ""}`;
  const strong = spot.groups.filter((group) => group.lines);
  const rest = spot.groups.filter((group) => !group.lines);
  place.replaceChildren(...[
    make("h2", {}, where),
    spot.scan.state === "missing" ? make("p", { className: "note" }, spot.scan.why) : null,
    spot.scan.state === "closed" ? make("p", { className: "note" }, "Its spectrum is in the scan, which is not open. ", app.scanButton(spot.scan.path)) : null,
    spot.unlike ? make("p", { className: "note" }, `Unassigned peak near ${number(spot.unlike.energy_kev)} keV (${spot.unlike.sigma.toFixed(0)} σ). Do not rely on the pigments below until the peak is explained.`) : null,
    inShort(app, spot.groups),
    ...strong.map((group) => card(app, group)),
    strong.length ? null : make("p", { className: "empty" }, spot.groups.length ? "No pigment reaches a probability of 0.1 here." : "These results hold no pigments, only elements."),
    quantities(spot.quantities),
    elements(app, spot.elements),
    rest.length ? make("details", {}, make("summary", {}, `${rest.length} others, less likely`),
      make("ul", { className: "plain" }, ...rest.map((group) => make("li", {}, `${group.label}: ${group.answer || certainty(group.probability)}`)))) : null,
    layers(app, spot),
  ].filter(Boolean));
}

// Minimum probability for a place to be stated, like underpaint.data.maps.PLACED_PROBABILITY.
const PLACED = 0.75;

// Groups by depth, each with its probability.
function inShort(app, groups) {
  const named = (condition, value) => groups.filter(condition).map((group) => (value ? `${shortName(group)} (${certainty(value(group))})` : shortName(group))).join(", ");
  const groupsAt = (place) => named((group) => (group.places[place] ?? 0) >= PLACED, (group) => group.places[place]);
  const depths = ["surface", "below"].filter((place) => groups.some((group) => place in group.places))
    .map((place) => make("p", {}, make("b", {}, `${app.placeWords[place]}: `), groupsAt(place) || `no group with a probability of ${PLACED} or more`));
  if (!depths.length) return null;
  const anywhere = named((group) => group.probability >= PLACED && !Object.values(group.places).some((value) => value >= PLACED), (group) => group.probability);
  const unknown = named((group) => group.state === CANNOT_EXCLUDE);
  return make("div", { className: "short" }, ...depths,
    anywhere ? make("p", {}, make("b", {}, "Present, depth undetermined: "), anywhere) : null,
    unknown ? make("p", {}, make("b", {}, "Cannot be excluded: "), unknown) : null,
    app.about.hiding ? null : make("p", { className: "quiet" }, "Whether a pigment could be hidden here was not assessed, because the instrument is unknown: a pigment that is not named is not proven absent. Run the scan again with the instrument chosen on the start page."),
    make("p", { className: "quiet" }, "In brackets: probability at that depth."));
}

// Expected lines that are missing; lines without a map are ignored.
function against(group) {
  const lacking = group.lines.filter((line) => !line.there);
  if (lacking.length) return lacking.map((line) => `${lineName(line.family)} is not above 3 σ (${thousands(line.counts)} ± ${thousands(line.error ?? 0)} counts)`).join("; ");
  if (!group.lines.length) return "unknown, none of its lines was measured";
  return group.unmeasured.length ? "nothing: all measured lines are present" : "nothing: all expected lines are present";
}

function card(app, group) {
  const there = group.lines.filter((line) => line.there);
  const places = Object.entries(group.places);
  return make("section", { className: "card" },
    make("h3", {}, make("button", { type: "button", className: "link", title: "Show its map", onclick: () => app.showNamed(group.name) }, group.label),
      make("span", { className: "value" }, certainty(group.probability))),
    meter(group.probability),
    ...places.map(([where, value]) => make("p", {}, make("button", { type: "button", className: "link plain", title: "Show its map there", onclick: () => app.showPlace(group.name, where) }, app.placeWords[where] || where), `: ${certainty(value)}`)),
    group.share && group.share.value !== null && (group.places.surface ?? 0) > 0.5 ? make("p", { title: "Shares are estimated separately, and a pigment of two groups counts in both groups. The sum may therefore exceed 1." }, `share of the pigments at the surface: ${estimate(group.share)}`) : null,
    group.answer ? make("p", { className: group.state === CANNOT_EXCLUDE ? "note" : "" }, make("b", {}, "Answer: "), group.answer) : null,
    group.amount && group.amount.value !== null ? make("p", { title: "Mass fraction of the element in the dry paint of any one layer." }, `amount: ${estimate(group.amount)}`) : null,
    make("p", {}, make("b", {}, "For it: "), there.length ? there.map((line) => `${lineName(line.family)} ${thousands(line.counts)} ± ${thousands(line.error ?? 0)} counts (${line.sigma.toFixed(0)} σ)`).join("; ") : group.lines.length ? "no line detected" : "none of its lines was measured"),
    make("p", {}, make("b", {}, "Against it: "), against(group)),
    group.unmeasured.length ? make("p", { className: "quiet" }, `Without a map: ${group.unmeasured.map(lineName).join(", ")}.`) : null,
    group.alike.length > 1 ? make("details", {}, make("summary", {}, `One of ${group.alike.length} pigments; X-rays do not distinguish pigments with the same elements`),
      make("ul", { className: "plain" }, ...(group.members.length ? group.members.map((member) => make("li", {}, group.members.length > 1 ? `${member.label}: ${certainty(member.probability)}` : `${member.label}, the only one in the palette`)) : group.alike.map((label) => make("li", {}, label)))),
      group.left_out.length ? make("p", { className: "note" }, `Not in the palette, or unknown to the network, yet possible: ${group.left_out.join(", ")}.`) : null,
      group.members.length > 1 ? make("p", { className: "quiet" }, "These numbers depend more on the prior than on the spectrum; the prior has equal weights for pigments with the same elements.") : null,
      group.apart ? make("p", {}, group.apart) : null) : null,
    app.statements.shown("group", group.name));
}

function estimate(quantity) {
  if (quantity.low === 0) return `under ${number(quantity.high, quantity.unit)} (90 %)`;
  if (quantity.low !== undefined && quantity.low !== null) return `${number(quantity.value, quantity.unit)} (90 % interval ${number(quantity.low)} to ${number(quantity.high, quantity.unit)})`;
  return `${number(quantity.value, quantity.unit)}${quantity.error ? ` ± ${number(quantity.error, quantity.unit)}` : ""}`;
}

function quantities(entries) {
  const known = entries.filter((quantity) => quantity.value !== null);
  if (!known.length) return null;
  return make("section", { className: "card" }, make("h3", {}, "Quantities"), make("ul", { className: "plain" },
    ...known.map((quantity) => make("li", {}, `${shortName(quantity)}: ${estimate(quantity)}`))));
}

function elements(app, entries) {
  const seen = entries.filter((line) => line.there);
  if (!entries.length) return null;
  return make("section", { className: "card" }, make("h3", {}, "Elements over 3 σ"),
    seen.length ? make("table", {}, make("tbody", {}, ...seen.map((line) => make("tr", {}, make("th", { scope: "row" }, lineName(line.name)),
      make("td", {}, `${thousands(line.counts)} ± ${thousands(line.error ?? 0)}`), make("td", {}, `${line.sigma.toFixed(0)} σ`), make("td", {}, app.statements.button("line", line.name, "Correct …")))))) : make("p", { className: "empty" }, "None."),
    ...seen.flatMap((line) => app.statements.of("line", line.name).map((each) => make("p", { className: "note" }, make("b", {}, `Expert on ${lineName(line.name)}: `), app.statements.words(each)))));
}

// Sampling layers takes seconds to minutes, and runs in the background.
function layers(app, spot) {
  const status = make("div");
  const button = make("button", { type: "button", disabled: spot.scan.state !== "ready" }, "Which layers could this be?");
  button.onclick = guarded(async () => {
    const { run, instrument } = await askJson("explain", { method: "POST", json: { row: spot.row, column: spot.column } });
    const stop = make("button", { type: "button", onclick: () => askJson(`run?run=${run}`, { method: "DELETE" }) }, "Stop");
    button.disabled = true;
    status.replaceChildren(stop);
    try {
      const now = await followed(run, (state) => { status.replaceChildren(make("p", { role: "status" }, progressed(state)), stop); status.scrollIntoView({ block: "nearest" }); }, () => status.isConnected);
      const note = app.about.instrument ? null : make("p", { className: "note" }, `The instrument is unknown: "${instrument}" is assumed.`);
      status.replaceChildren(...[note, now.result ? make("ul", {}, ...now.result.words.map((text) => make("li", {}, text))) : make("p", { className: "note" }, now.error || now.step)].filter(Boolean));
      status.scrollIntoView({ block: "nearest" });
    } finally { button.disabled = false; }
  });
  return make("section", { className: "card" }, make("h3", {}, "Layers"),
    make("p", { className: "quiet" }, "Layers, pigments and thicknesses are sampled in two independent runs; only what both give is stated. This takes half a minute."), button, status);
}
