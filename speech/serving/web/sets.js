// A prepared test set, page by page: references, hypotheses, and their differences.

import * as api from "./api.js";
import * as dom from "./dom.js";
import { byId, count, element, isolated, percent } from "./dom.js";
import { explain, Problem } from "./problems.js";

const PAGE = 10; // utterances
const KINDS = { "=": "equal", s: "substitute", d: "delete", i: "insert" };
const SPOKEN = { s: "substituted:", d: "deleted:", i: "inserted:" }; // for screen readers

export class Sets {
  /**
   * @param chosen returns {model, scorer}
   * @param give called with {name, file}, see app.js, to show a recording with its pictures
   */
  constructor(chosen, give) {
    this.chosen = chosen;
    this.give = give;
    this.offset = 0;
    this.page = null;
    byId("set-form").addEventListener("submit", (event) => event.preventDefault());
    byId("set").addEventListener("change", () => this.go(0));
    byId("previous").addEventListener("click", () => this.go(this.offset - PAGE, true));
    byId("next").addEventListener("click", () => this.go(this.offset + PAGE, true));
    byId("errors-only").addEventListener("change", () => this.filter());
    this.player = byId("set-player");
    this.player.addEventListener("error", () => {
      const problem = new Problem("no recording", this.player.error.message);
      dom.showError(explain(problem, this.played));
    });
  }

  /** Opens the view; the list of sets is requested once. */
  async open() {
    if (this.sets) {
      if (!this.page) this.load(this.offset);
      return;
    }
    try {
      this.sets = (await api.sets()).sets;
    } catch (error) {
      dom.showError(explain(error), () => this.open());
      return;
    }
    byId("set-form").hidden = !this.sets.length;
    if (!this.sets.length) {
      const sentence = "This server has no test sets. Its administrator can add some.";
      const details =
        "serve.py --test_data names the shards of a set, --audio the folder of its recordings.";
      byId("sets-about").replaceChildren(...dom.explained({ sentence, details }));
      return;
    }
    byId("set").replaceChildren(
      ...this.sets.map(({ name, utterances, seconds }) =>
        element("option", {
          value: name,
          textContent: `${name} (${count(utterances, "utterance")}, ${Math.ceil(seconds / 60)} min)`,
        }),
      ),
    );
    this.load(0);
  }

  /** Drops the page: another model or scorer was chosen. */
  forget() {
    this.page = null;
  }

  go(offset, moveFocus = false) {
    dom.clearError();
    this.load(offset, moveFocus);
  }

  /** Loads a page; an error that is shown stays, unless the user asked for the page (see go). */
  async load(offset, moveFocus = false) {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.offset = Math.max(offset, 0);
    const status = byId("sets-status");
    status.textContent = "Recognising this page of the set …";
    byId("utterances").setAttribute("aria-busy", "true");
    try {
      const name = byId("set").value;
      this.page = await api.setPage(name, this.chosen(), this.offset, PAGE, asking.signal);
      this.show(this.page);
      status.textContent = "";
      if (moveFocus) dom.goTo(byId("sets-title"));
    } catch (error) {
      if (error.name === "AbortError") return;
      status.textContent = "";
      this.clear();
      const set = `the test set ${byId("set").value}`;
      dom.showError(explain(error, set), () => this.go(offset, moveFocus));
    } finally {
      if (this.asking === asking) byId("utterances").removeAttribute("aria-busy");
    }
  }

  clear() {
    this.page = null;
    byId("utterances").replaceChildren();
    byId("rates").textContent = "";
    byId("pages").hidden = true;
    byId("legend").hidden = true;
    byId("all-right").hidden = true;
  }

  show({ utterances, offset, rows, rates, so_far: soFar }) {
    byId("rates").replaceChildren(
      ...summary("This page", rates),
      element("br"),
      ...summary("So far", soFar),
    );
    byId("legend").hidden = false;
    byId("utterances").replaceChildren(...rows.map((row) => this.utterance(row)));
    this.filter();
    byId("pages").hidden = utterances <= PAGE;
    byId("page-number").textContent =
      `${offset + 1} to ${offset + rows.length} of ${utterances.toLocaleString("en")}`;
    byId("previous").disabled = offset === 0;
    byId("next").disabled = offset + rows.length >= utterances;
  }

  /** Hides the utterances without errors, if the user wants to. */
  filter() {
    const only = byId("errors-only").checked;
    const articles = [...document.querySelectorAll("#utterances article")];
    articles.forEach((article) => {
      article.hidden = only && article.classList.contains("right");
    });
    byId("all-right").hidden = !only || !articles.every(({ hidden }) => hidden);
    if (this.player.closest("article")?.hidden) this.player.pause();
  }

  /** An utterance's row; without errors it is folded into one line. */
  utterance(row) {
    const about = `${row.seconds.toFixed(1)}\u00a0s`;
    if (row.words.every(([kind]) => kind === "=")) {
      const text = element("span", { dir: "auto", textContent: row.reference || "(nothing)" });
      const name = element("span", { className: "note" }, `${isolated(row.id)}, ${about}`);
      const mark = element("span", { className: "mark", ariaHidden: true }, "✓");
      const spoken = element("span", { className: "hidden" }, "no errors:");
      const line = element("summary", {}, mark, spoken, " ", text, " ", name);
      const folded = element("details", {}, line, ...this.ways(row));
      return element("article", { className: "right" }, folded);
    }
    const title = element("h3", { dir: "auto", textContent: row.id });
    const rates = `${about} · WER ${percent(row.wer, 0)} · CER ${percent(row.cer, 0)}`;
    const header = element("header", {}, title, element("span", {}, rates));
    return element("article", {}, header, alignment(row), ...this.ways(row));
  }

  /** Buttons for the recording of an utterance, if the server has it. */
  ways({ id, audio }) {
    if (!audio) return [];
    const address = api.relative(audio);
    const ways = element("div", { className: "row" });
    const add = (name, run) => {
      const button = element("button", { type: "button", textContent: name });
      button.setAttribute("aria-label", `${name}: ${id}`);
      button.addEventListener("click", run);
      ways.append(button);
    };
    add("Listen", () => this.listen(ways, address, id));
    const file = (signal) => api.fetchRecording(address, id, signal);
    add("Pictures", () => this.give({ name: id, file }));
    return [ways];
  }

  /** Plays a recording; the one player of all rows is moved to its row. */
  listen(ways, address, id) {
    const { player } = this;
    if (player.parentElement !== ways) {
      ways.append(player);
      player.src = address;
      player.hidden = false;
      player.setAttribute("aria-label", `Recording of ${id}`);
      this.played = id;
    }
    player.currentTime = 0;
    player.play().catch(() => {}); // the event "error" says why
  }
}

function summary(name, { utterances, words, wer, cer }) {
  return [
    `${name}: `,
    element("b", {}, `WER ${percent(wer)}, CER ${percent(cer)}`),
    ` of ${count(utterances, "utterance")}, ${count(words, "word")}`,
  ];
}

/** Reference above hypothesis, word by word; errors have signs and words, not only colours. */
function alignment({ words, reference: whole }) {
  const shown = element("div", { className: "alignment", dir: direction(whole) });
  for (const [kind, reference, hypothesis] of words) {
    const pair = element("span", { className: KINDS[kind] });
    if (SPOKEN[kind]) pair.append(element("span", { className: "hidden" }, SPOKEN[kind]));
    pair.append(line(reference));
    // Screen readers needn't read the same word twice.
    pair.append(Object.assign(line(hypothesis), { ariaHidden: kind === "=" }));
    shown.append(pair, " ");
  }
  return shown;
}

const line = (text) => element("span", { textContent: text });

/** The direction of a text by its first letter, as dir=auto finds it, but before it is shown. */
function direction(text) {
  const first = text.match(/\p{L}/u)?.[0] || "";
  return /[\p{sc=Arab}\p{sc=Hebr}\p{sc=Syrc}\p{sc=Thaa}\p{sc=Nko}]/u.test(first) ? "rtl" : "ltr";
}
