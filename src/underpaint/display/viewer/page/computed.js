// Maps that are computed on demand and not saved: energy windows, components, clusters.
import { askJson, byId, followed, guarded, make, progressed, say } from "./base.js";
import { forget } from "./maps.js";

const MOST_RECIPES = 40;
export const COMPUTED = ["window", "component", "cluster", "refit"];

export class Computed {
  constructor(app) { Object.assign(this, { app, turn: 0, recipes: [], waiting: [] }); }

  // Parameters from which a saved view computes a map again.
  note(recipe) {
    const text = JSON.stringify(recipe);
    this.recipes = [...this.recipes.filter((each) => JSON.stringify(each) !== text), recipe].slice(-MOST_RECIPES);
  }

  // Computes the maps of a saved view; window maps wait until the scan is open.
  async again(recipes) {
    const open = this.app.about.scan.state === "ready";
    this.waiting = open ? [] : recipes.filter(({ what }) => what === "window");
    for (const { what, low, high, background, n } of recipes.slice(-MOST_RECIPES)) {
      if (what === "window" && !open) continue;
      try {
        const answer = what === "window" ? await askJson("window", { method: "POST", json: { low, high, background } }) : await askJson("explore", { method: "POST", json: { what, n } });
        for (const each of answer.maps || (answer.entry ? [answer] : [])) this.add(each);
        if (!answer.run) this.note(what === "window" ? { what, low, high, background } : { what, n });
      } catch (error) { say(error.message); }
    }
  }

  // Adds a map to the lists, or replaces the map of the same name.
  add({ map, entry }) {
    const { entries } = this.app;
    if (entries[map]) forget(map);
    entries[map] = { ...entry, index: map };
    this.app.buildList();
    return map;
  }

  window(low, high, background = true) {
    const turn = (this.turn += 1);
    return guarded(async () => {
      const words = byId("spectrum-words");
      if (this.app.about.scan.state !== "ready") { words.replaceChildren(...[this.app.scanWords(this.app.about.scan)].flat()); return; }
      const request = { method: "POST", json: { low, high, background } };
      let answer = await askJson("window", request);
      if (answer.run) {
        const { run } = answer;
        const stop = make("button", { type: "button", onclick: () => askJson(`run?run=${run}`, { method: "DELETE" }) }, "Stop");
        const now = await followed(run, (state) => words.replaceChildren("First window of this scan: ", progressed(state), stop), () => turn === this.turn);
        words.replaceChildren(now.error || (now.result ? "" : now.step));
        if (!now.result) return;
        answer = await askJson("window", request);
      }
      this.note({ what: "window", low, high, background });
      if (turn !== this.turn) return;
      await this.app.showComputed(this.add(answer));
      document.body.dataset.window = answer.entry.name;
    })();
  }
}
