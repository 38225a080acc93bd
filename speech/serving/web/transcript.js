// The words of a recording: each is a button that plays from its time, marked while it plays.

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

  /** Shows a response of POST /api/transcribe; name: of the recording. */
  show(answer, name) {
    this.answer = answer;
    this.name = name;
    this.said = null;
    const timed = timedWords(answer.segments);
    this.words = timed.map((word) => ({ ...word, button: this.button(word) }));
    byId("words").replaceChildren(...answer.segments.map((segment, i) => this.segment(segment, i)));
    if (!answer.segments.length) {
      byId("words").replaceChildren(noWords());
    }
    byId("words-note").hidden = !this.words.length;
    if (this.words.length) this.words[0].button.tabIndex = 0;
  }

  /** Only one word is reached by the tab key; arrow keys move on from there. */
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
    if (!words.length) text.append(noWords());
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
      byId("status").textContent = "The text was copied.";
    } catch {
      byId("status").textContent = "This page may not copy: save the text instead.";
    }
  }
}

const noWords = () =>
  element("span", { className: "empty", textContent: "No words were recognised here." });

/** The other candidates, and their probability relative to the best one. */
function candidates(best, others) {
  const items = others.map(({ text, confidence }) => {
    const share = 100 * Math.exp(Math.min(confidence - best.confidence, 0));
    const percentage = share < 1 ? "less than 1 %" : `${share.toFixed(0)} %`;
    const words = element("span", { dir: "auto", textContent: text || "(nothing)" });
    return element("li", {}, words, " ", element("span", { className: "note" }, `(${percentage})`));
  });
  return element(
    "details",
    {},
    element("summary", {}, count(others.length, "other candidate")),
    element("p", { className: "note" }, "Probability of each, relative to the text above:"),
    element("ol", {}, ...items),
  );
}
