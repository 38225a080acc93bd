// Explains errors to users: a sentence that says what to do, and the message of the server or
// browser under "Details". Only the kind selects the sentence, never the words of a message.

import { isolated } from "./dom.js";

/** What went wrong. */
export class Problem extends Error {
  /**
   * @param kind a key of SENTENCES, or another status of HTTP
   * @param details the message of the server or the browser, unchanged
   * @param seconds after which to try again, if the server gives them
   */
  constructor(kind, details = "", seconds = null) {
    super(details);
    this.kind = kind;
    this.seconds = seconds;
  }
}

const LOAD_AGAIN = "Load this page again.";
const OR_FILE = "or choose a file instead.";
const CONTINUES = "The recording continues, and its text appears when you stop.";

const busy = ({ seconds }) =>
  `The server is busy. Try again in ${seconds ? `${seconds} seconds` : "a minute"}.`;

// Each takes {name, seconds}: the name of the recording, and after how long to try again.
const SENTENCES = {
  // Statuses of HTTP.
  400: ({ name }) => `The chosen model or scorer doesn't fit ${name}. Choose another one.`,
  401: () => `The server needs its key. ${LOAD_AGAIN}`,
  403: () => "The server accepts requests only from its own page. Open the page at its address.",
  404: () => `The server doesn't have what this page requested. ${LOAD_AGAIN}`,
  408: () => "The upload was too slow. Try again, or choose a smaller file.",
  409: () => `Something was changed on the server meanwhile. ${LOAD_AGAIN}`,
  410: () => "This server doesn't know you any more. Open Read aloud, and agree again.",
  413: ({ name }) =>
    `${name} is too large or too long for this server. Choose a shorter piece, or a compressed ` +
    "format such as FLAC or MP3.",
  415: ({ name }) => `No sound was found in ${name}. Choose another file, or record it again.`,
  429: busy,
  500: () =>
    "The server failed. Try again; if it fails again, send the details to its administrator.",
  503: busy,
  507: () => "The server's disk is full. Try again later, or choose a smaller file.",
  refused: () => `The server refused this. ${LOAD_AGAIN}`, // any other 4xx

  lost: () => "The server doesn't respond. Check your connection, then try again.",
  waiting: ({ name }) => `${name} has to wait until you stop the recording. Press Stop first.`,
  "no recording": ({ name }) =>
    `There is no recording of ${name}, or the browser can't play it. Choose another one.`,
  page: () => `This page failed. ${LOAD_AGAIN}`,

  // The microphone; names in capitals are the browser's.
  insecure: () =>
    "Browsers allow the microphone on secure pages only. Open this page by https, or on the " +
    `server's own machine as http://localhost, ${OR_FILE}`,
  NotAllowedError: () =>
    "This page may not use the microphone. Allow it in the settings next to this page's " +
    "address, then press Record again.",
  NotFoundError: () => `No microphone was found. Connect one and press Record again, ${OR_FILE}`,
  NotReadableError: () =>
    "Another program is using the microphone. Close it, then press Record again.",
  microphone: () => "The microphone can't be used. Choose a file instead.",
  "nothing recorded": () =>
    "Nothing was recorded: the microphone gave no sound. Check it, then press Record again.",

  // Live text.
  "live text lost": () => `The server doesn't respond. ${CONTINUES}`,
  "live text ended": () => `The server has ended the live text. ${CONTINUES}`,
};

const AGAIN = [408, 429, "lost"]; // and what is the server's own fault, 5xx

function known(kind) {
  if (kind in SENTENCES) return kind;
  if (kind >= 500) return 500;
  return kind >= 400 ? "refused" : "page";
}

/**
 * Explains an error.
 *
 * @param name of the recording
 * @return {sentence, details, again}; again: whether the same request may succeed later
 */
export function explain({ kind, message, seconds }, name = "") {
  return {
    sentence: SENTENCES[known(kind)]({ name: isolated(name), seconds }),
    details: message,
    again: AGAIN.includes(kind) || kind >= 500,
  };
}

/** The problem of a microphone that can't be used; error: thrown by getUserMedia. */
export function microphoneProblem(error) {
  if (!navigator.mediaDevices?.getUserMedia) return new Problem("insecure", location.origin);
  const named = error.name.startsWith("Not") && error.name in SENTENCES;
  return new Problem(named ? error.name : "microphone", `${error.name}: ${error.message}`);
}
