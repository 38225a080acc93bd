// Small functions for elements and texts, used by all modules.

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** A new element: its properties are set, its children (elements or text) appended. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Lets the browser save a file. */
export function save(content, name) {
  const link = element("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  byId("status").textContent = `Saved ${name}.`;
}

/** Elements of a sentence, and of further text that is folded under "Details". */
export function explained({ sentence, details }) {
  const shown = [element("p", { textContent: sentence, dir: "auto" })];
  if (details) {
    const more = element("p", { textContent: details, dir: "auto" });
    shown.push(element("details", {}, element("summary", {}, "Details"), more));
  }
  return shown;
}

/** Shows an error: it is read out at once, and scrolled into view. See explain of problems.js. */
export function showError(explanation, tryAgain) {
  const alert = byId("alert");
  const shown = explained(explanation);
  if (explanation.again && tryAgain) {
    const button = element("button", { type: "button", textContent: "Try again" });
    button.addEventListener("click", () => {
      byId("main").focus({ preventScroll: true }); // the button, which has the focus, is removed
      clearError();
      tryAgain();
    });
    shown.splice(1, 0, button); // above the details
  }
  alert.replaceChildren(...shown);
  alert.scrollIntoView({ block: "nearest" });
}

export const clearError = () => byId("alert").replaceChildren();

/** Moves the focus to a heading, and scrolls its section into view. */
export function goTo(heading) {
  heading.focus({ preventScroll: true });
  heading.closest("section").scrollIntoView({ block: "nearest" });
}

/** Text in any script for use inside a sentence, whose order it mustn't change (Unicode isolates). */
export const isolated = (text) => `\u2068${text}\u2069`;

/** Formats a time as a clock does, rounded down: 75.98 -> "1:15"; with one decimal "1:15.9". */
export function clock(seconds, decimals = 0) {
  const units = Math.floor(Math.max(seconds, 0) * 10 ** decimals + 1e-6);
  const minutes = Math.floor(units / 10 ** decimals / 60);
  const rest = (units / 10 ** decimals - 60 * minutes).toFixed(decimals);
  return `${minutes}:${rest.padStart(decimals ? 3 + decimals : 2, "0")}`;
}

/** 0.0312 -> "3.1 %". */
export const percent = (share, decimals = 1) => `${(100 * share).toFixed(decimals)} %`;

/** 1 utterance, 2 utterances. */
export const count = (number, of) =>
  `${number.toLocaleString("en")} ${of}${number === 1 ? "" : "s"}`;
