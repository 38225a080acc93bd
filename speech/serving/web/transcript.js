// The words of a recording: each a button that goes to its moment, marked while it is said.

import { byId, clock, count, element, save } from "./dom.js";
import * as files from "./subtitles.js";
import { timedWords } from "./words.js";

export class Transcript {
  constructor(timeline) {
    this.timeline = timeline;
    this.words = []; // {start, duration, button}, in their order
    this.said = null;
    timeline.addEventListener("time", () => this.mark());
    byId("words").addEventListener("keydown", (event) => this.key(event));
    document
      .querySelectorAll("[data-download]")
      .forEach((button) =>
        button.addEventListener("click", () => this.download(button.dataset.download)),
      );
    byId("copy").addEventListener("click", () => this.copy());
  }

  /** Shows an answer of POST /api/transcribe; name: the recording's. */
  show(answer, name) {
    this.answer = answer;
    this.name = name;
    this.said = null;
    const timed = timedWords(answer.segments);
    this.words = timed.map((word) => ({ ...word, button: this.button(word) }));
    byId("words").replaceChildren(...answer.segments.map((segment, i) => this.segment(segment, i)));
    if (!answer.segments.length) {
      byId("words").replaceChildren(nothingHeard());
    }
    byId("words-note").hidden = !this.words.length;
    if (this.words.length) this.words[0].button.tabIndex = 0;
  }

  /** One word is in the order of the tab key, arrow keys go on from there. */
  button({ text, start }) {
    const button = element("button", { type: "button", className: "word", textContent: text });
    button.tabIndex = -1;
    button.title = `${clock(start, 1)}: play from here`;
    button.addEventListener("click", () => {
      this.timeline.seek(start);
      this.timeline.play();
    });
    button.addEventListener("focus", () => {
      this.words.forEach((word) => (word.button.tabIndex = -1));
      button.tabIndex = 0;
    });
    return button;
  }

  segment(segment, number) {
    const words = this.words.filter((word) => word.segment === number);
    const text = element("p", { className: "transcript", dir: "auto" });
    words.forEach(({ before, button }, i) => text.append(i ? before : "", button));
    if (!words.length) text.append(nothingHeard());
    const shown = element("div", { className: "segment" }, text);
    if (this.answer.segments.length > 1) {
      shown.classList.add("timed");
      shown.prepend(element("span", { className: "time", textContent: clock(segment.start) }));
    }
    const others = segment.candidates.slice(1);
    if (others.length) shown.append(candidates(segment.candidates[0], others));
    return shown;
  }

  mark() {
    const { time } = this.timeline;
    const now = ({ start, duration }) => time >= start && time < start + duration;
    const said = this.words.find(now) || null;
    if (said === this.said) return;
    this.said?.button.classList.remove("said");
    this.said?.button.removeAttribute("aria-current");
    said?.button.classList.add("said");
    said?.button.setAttribute("aria-current", "true");
    this.said = said;
  }

  key(event) {
    const at = this.words.findIndex(({ button }) => button === event.target);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const leftwards = getComputedStyle(event.target).direction === "rtl" ? 1 : -1;
    const moves = {
      ArrowLeft: at + leftwards,
      ArrowRight: at - leftwards,
      ArrowUp: at - 1,
      ArrowDown: at + 1,
      Home: 0,
      End: this.words.length - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.words[Math.min(Math.max(moves[event.key], 0), this.words.length - 1)].button.focus();
  }

  download(kind) {
    const content = new Blob([files[kind](this.answer)], { type: files.TYPES[kind] });
    save(content, `${this.name.replace(/\.[^.]*$/, "")}.${kind}`);
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(files.txt(this.answer));
      byId("status").textContent = "The text is copied.";
    } catch {
      byId("status").textContent = "The browser doesn't let this page copy: save the text instead.";
    }
  }
}

const nothingHeard = () =>
  element("span", { className: "empty", textContent: "No words were recognised here." });

/** What might have been said as well, and how probable it is beside the first. */
function candidates(best, others) {
  const items = others.map(({ text, confidence }) => {
    const share = 100 * Math.exp(Math.min(confidence - best.confidence, 0));
    const told = share < 1 ? "less than 1 %" : `${share.toFixed(0)} %`;
    const words = element("span", { dir: "auto", textContent: text || "(nothing)" });
    return element("li", {}, words, " ", element("span", { className: "note" }, `(${told})`));
  });
  return element(
    "details",
    {},
    element("summary", {}, count(others.length, "less sure candidate")),
    element("p", { className: "note" }, "How probable each is beside the text above:"),
    element("ol", {}, ...items),
  );
}
