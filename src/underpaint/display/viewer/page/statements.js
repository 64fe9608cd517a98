// Statements of experts on a group, a line or a paint, saved with the results and kept apart from the program's answers.
import { byId, lineName, make, shortName } from "./base.js";

const VERDICTS = { confirmed: "Confirmed", corrected: "Corrected", comment: "Comment" };

export class Statements {
  constructor(app) {
    this.app = app;
    this.dialog = byId("statement");
  }

  of(subject, name) { return this.app.session.statements.filter((each) => each.subject === subject && each.name === name); }

  title(subject, name) {
    if (subject === "line") return lineName(name);
    const entry = this.app.entries.find((each) => each.name === name && each.kind !== "state");
    return entry ? shortName(entry) : name;
  }

  words(statement) {
    const { verdict, correction, reason, author, date } = statement;
    return `${VERDICTS[verdict]}${correction ? `: it is ${correction}` : ""}${reason ? `. ${reason}` : ""} (${author}, ${date.slice(0, 10)})`;
  }

  // Statements on a subject, and a button to add a statement.
  shown(subject, name) {
    return make("div", { className: "expert" }, ...this.of(subject, name).map((statement) => make("p", { className: "note" }, make("b", {}, "Expert: "), this.words(statement), " ",
      make("button", { type: "button", className: "small", "aria-label": "Remove this statement", onclick: () => this.set(this.app.session.statements.filter((each) => each !== statement), "removed a statement") }, "×"))),
    this.button(subject, name));
  }

  button(subject, name, label = "Confirm or correct …") {
    return make("button", { type: "button", className: "small", title: `Confirm, correct or comment ${this.title(subject, name)}`, onclick: () => this.open(subject, name) }, label);
  }

  list() {
    const { statements } = this.app.session;
    return statements.length ? make("section", { className: "card" }, make("h3", {}, "Stated by experts, not by the program"), make("ul", {}, ...statements.map((each) => make("li", {}, make("b", {}, `${this.title(each.subject, each.name)}: `), this.words(each))))) : null;
  }

  // Short text for the legend of a map.
  legend(entry) {
    const subject = entry.kind === "element" ? "line" : "group";
    const [last] = this.of(subject, entry.material || entry.name).slice(-1);
    return last ? make("span", { className: "quiet" }, `Expert: ${VERDICTS[last.verdict].toLowerCase()}${last.correction ? `: ${last.correction}` : ""}, ${last.author}`) : null;
  }

  open(subject, name) {
    const verdict = make("select", { id: "statement-verdict" }, ...Object.entries(VERDICTS).map(([key, label]) => make("option", { value: key }, label)));
    const correction = make("input", { type: "text", id: "statement-correction", maxlength: "120", placeholder: "what it is instead" });
    const correctionLabel = make("label", { hidden: true }, "It is ", correction);
    verdict.addEventListener("change", () => { correctionLabel.hidden = verdict.value !== "corrected"; correction.required = !correctionLabel.hidden; });
    const reason = make("textarea", { id: "statement-reason", rows: "4", maxlength: "2000", "aria-label": "Reason" });
    const author = make("input", { type: "text", id: "statement-author", maxlength: "120", required: true });
    try { author.value = localStorage.getItem("underpaint-author") || ""; } catch { /* storage is not available */ }
    const form = make("form", { method: "dialog", onsubmit: () => {
      try { localStorage.setItem("underpaint-author", author.value); } catch { /* storage is not available */ }
      this.set([...this.app.session.statements, { subject, name, verdict: verdict.value, correction: verdict.value === "corrected" ? correction.value : "", reason: reason.value, author: author.value, date: new Date().toISOString().slice(0, 19) + "Z" }], "stated something");
    } }, make("h2", {}, this.title(subject, name)), make("p", { className: "quiet" }, "A statement applies to the whole scan, not to one pixel. Maps and report show it beside the program's answer, which does not change."), make("label", {}, "Verdict ", verdict), correctionLabel, make("label", {}, "Reason", reason), make("label", {}, "Your name ", author),
    make("p", { className: "buttons" }, make("button", { id: "statement-save", className: "primary" }, "Save"), make("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel")));
    this.dialog.replaceChildren(form);
    this.dialog.showModal();
  }

  set(statements, words) {
    const { session, history } = this.app;
    const before = session.statements;
    history.did(words, () => { session.statements = before; session.changed(); session.save(); });
    session.statements = statements;
    session.changed();
    session.save();
    this.app.reportOutdated();
  }
}
