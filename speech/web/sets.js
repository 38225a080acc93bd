// A prepared test set, page by page: what was said, what was recognised, and where they differ.

import * as api from "./api.js";
import { byId, count, element, percent, showError } from "./dom.js";

const PAGE = 10; // utterances
const KINDS = { "=": "equal", s: "substitute", d: "delete", i: "insert" };
const SPOKEN = { s: "another word:", d: "left out:", i: "put in:" };

export class Sets {
  /**
   * @param chosen gives {model, scorer}
   * @param look called with a recording's file, to show it with its pictures
   */
  constructor(chosen, look) {
    this.chosen = chosen;
    this.look = look;
    this.offset = 0;
    this.page = null;
    byId("set-form").addEventListener("submit", (event) => event.preventDefault());
    byId("set").addEventListener("change", () => this.go(0));
    byId("previous").addEventListener("click", () => this.go(this.offset - PAGE, true));
    byId("next").addEventListener("click", () => this.go(this.offset + PAGE, true));
  }

  /** The view is opened: its sets are asked for once. */
  async open() {
    if (this.sets) {
      if (!this.page) this.load(this.offset);
      return;
    }
    try {
      this.sets = (await api.sets()).sets;
    } catch (error) {
      showError(error.message, { name: "Try again", run: () => this.open() });
      return;
    }
    byId("set-form").hidden = !this.sets.length;
    if (!this.sets.length) {
      byId("sets-about").textContent =
        "The server was started without test sets: name the shards of one with --test_data, and " +
        "the folder of its recordings with --audio.";
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

  /** Another model or scorer: what is shown isn't theirs. */
  forget() {
    this.page = null;
  }

  go(offset, moveFocus = false) {
    showError("");
    this.load(offset, moveFocus);
  }

  /** Without a wish of the user's: an error that came meanwhile stays. */
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
      if (moveFocus) {
        byId("sets-title").focus({ preventScroll: true });
        byId("sets-title").scrollIntoView();
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      status.textContent = "";
      this.clear();
      const again = error.again && { name: "Try again", run: () => this.go(offset, moveFocus) };
      showError(error.message, again);
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
  }

  show({ utterances, offset, rows, rates, so_far: soFar }) {
    byId("rates").replaceChildren(
      ...told("This page", rates),
      element("br"),
      ...told("So far", soFar),
    );
    byId("legend").hidden = false;
    byId("utterances").replaceChildren(...rows.map((row) => this.utterance(row)));
    byId("pages").hidden = utterances <= PAGE;
    byId("page-number").textContent =
      `${offset + 1} to ${offset + rows.length} of ${utterances.toLocaleString("en")}`;
    byId("previous").disabled = offset === 0;
    byId("next").disabled = offset + rows.length >= utterances;
  }

  utterance(row) {
    const title = element("h3", { dir: "auto", textContent: row.id });
    const rates = element(
      "span",
      {},
      `${row.seconds.toFixed(1)} s · WER ${percent(row.wer, 0)} · CER ${percent(row.cer, 0)}`,
    );
    const shown = element("article", {}, element("header", {}, title, rates), alignment(row));
    if (row.audio) shown.append(this.player(row));
    return shown;
  }

  player({ id, audio }) {
    const player = element("audio", { controls: true, preload: "none", src: api.relative(audio) });
    player.setAttribute("aria-label", `Recording of ${id}`);
    const button = element("button", { type: "button", textContent: "Pictures" });
    button.setAttribute("aria-label", `Pictures of ${id}`);
    button.addEventListener("click", async () => {
      try {
        this.look(await api.fetchRecording(api.relative(audio), id));
      } catch (error) {
        showError(error.message);
      }
    });
    return element("div", { className: "row" }, player, button);
  }
}

function told(name, { utterances, words, wer, cer }) {
  return [
    `${name}: `,
    element("b", {}, `WER ${percent(wer)}, CER ${percent(cer)}`),
    ` of ${count(utterances, "utterance")}, ${count(words, "word")}`,
  ];
}

/** Reference above hypothesis, word by word; signs and words for the errors, not colours alone. */
function alignment({ words, reference }) {
  const shown = element("div", { className: "alignment", dir: direction(reference) });
  const wrong = words.some(([kind]) => kind !== "=");
  for (const [kind, said, heard] of words) {
    const pair = element("span", { className: KINDS[kind] });
    if (SPOKEN[kind]) pair.append(element("span", { className: "hidden" }, SPOKEN[kind]));
    pair.append(line(said));
    // Where all is right one line tells it; and nobody needs to hear the same word twice.
    if (wrong) pair.append(Object.assign(line(heard), { ariaHidden: kind === "=" }));
    shown.append(pair, " ");
  }
  if (!words.length) shown.append(element("span", { className: "empty" }, "Nothing was said."));
  return shown;
}

const line = (text) => element("span", { textContent: text });

/** Of a text by its first letter, as dir=auto has it; a grid of words needs it beforehand. */
function direction(text) {
  const first = text.match(/\p{L}/u)?.[0] || "";
  return /[\p{sc=Arab}\p{sc=Hebr}\p{sc=Syrc}\p{sc=Thaa}\p{sc=Nko}]/u.test(first) ? "rtl" : "ltr";
}
