// The page: shows a recording's words and pictures, and switches between the views.

import * as api from "./api.js";
import { Correction } from "./correction.js";
import { Corpus } from "./corpus.js";
import * as dom from "./dom.js";
import { byId, clock, count, element, isolated, save } from "./dom.js";
import { Outbox } from "./outbox.js";
import { Pictures } from "./pictures.js";
import { explain, microphoneProblem, Problem } from "./problems.js";
import { Recorder } from "./recorder.js";
import { findSample } from "./sample.js";
import { Sets } from "./sets.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { acceptFiles } from "./upload.js";

const CANDIDATES = 5;
const READ_OUT = 300; // most characters of a transcript that screen readers read out at once
const WITHOUT_SCORER = "none";

const timeline = new Timeline(byId("player"));
const transcript = new Transcript(timeline);
const pictures = new Pictures(timeline);
const sets = new Sets(chosen, give);
const outbox = new Outbox();
const correction = new Correction(outbox);
const corpus = new Corpus(outbox, () => server.limits);

let server = null; // the response of GET /api/models
let asking = null; // the AbortController of the recording that is being recognised
let recorder = null;
let view = null; // "recording", "sets" or "corpus"; null: none yet
let recorded = null; // the last recording of the microphone: {file, full: at the server's limit}

const status = (text) => {
  byId("status").textContent = text;
};

function chosen() {
  return { model: byId("model").value, scorer: byId("scorer").value };
}

const model = () => server.models.find(({ name }) => name === byId("model").value);

// --- Models and scorers

async function begin() {
  status("Loading the list of models …");
  try {
    server = await api.models();
  } catch (error) {
    fail(error, "", begin);
    return;
  }
  status("");
  const options = server.models.map(({ name, title }) => option(name, title || name));
  byId("model").replaceChildren(...options);
  byId("model").value = server.defaults.model;
  offerScorers();
  const { upload_bytes: bytes, seconds } = server.limits;
  byId("limits").textContent =
    `Any sound file, up to ${megabytes(bytes)} and ${duration(seconds)}. ` +
    (server.recordings
      ? "It is sent to this server only, and stored only if you correct its text and keep it."
      : "It is sent to this server only, and isn't stored.");
  ["model", "scorer", "record", "choose", "sample"].forEach((id) => {
    byId(id).disabled = false;
  });
  byId("to-corpus").hidden = !server.recordings;
  byId("correcting").hidden = !server.recordings;
  if (server.recordings) outbox.send();
  openView();
}

const option = (value, textContent) => element("option", { value, textContent });
const megabytes = (bytes) => `${Number((bytes / 1e6).toPrecision(2))} MB`;
const duration = (seconds) =>
  seconds < 120 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`;

/** Offers the scorers that fit the model, and selects the server's default. */
function offerScorers() {
  const { name, network, step, language, streams } = model();
  const fitting = server.scorers.filter(({ models }) => models.includes(name));
  const options = fitting.map((scorer) => option(scorer.name, scorer.name));
  byId("scorer").replaceChildren(...options, option("", WITHOUT_SCORER));
  const { scorer } = server.defaults;
  byId("scorer").value = fitting.some((each) => each.name === scorer)
    ? scorer
    : fitting[0]?.name || "";
  byId("about-model").textContent = [
    `${network}, trained for ${count(step, "step")}`,
    language && `language: ${language}`,
    streams
      ? "live text is final"
      : "live text is a draft, since the network also runs backwards in time",
  ]
    .filter(Boolean)
    .join(" · ");
}

byId("pickers").addEventListener("submit", (event) => event.preventDefault());
byId("pickers").addEventListener("change", ({ target }) => {
  if (target.id === "model") offerScorers();
  sets.forget();
  dom.clearError();
  if (view === "sets") sets.open();
  else if (given) recognise(given);
});

// --- A recording

// The last recording: {name, file}; file is called with a signal and returns a File or a promise.
let given = null;
let shown = null; // the recording whose transcript is shown, likewise

/** Recognises a recording, and shows it in place of the one before. */
async function recognise(wanted) {
  if (!server) return; // the error is shown already
  if (recorder) {
    dom.showError(explain(new Problem("waiting"), wanted.name));
    return;
  }
  dom.clearError();
  if (wanted !== shown) putAway();
  given = wanted;
  stopAsking();
  const mine = new AbortController();
  asking = mine;
  status(`Recognising ${isolated(wanted.name)} …`);
  byId("cancel").hidden = false;
  const { labels } = model();
  try {
    const file = await wanted.file(mine.signal);
    const { upload_bytes: most } = server.limits;
    if (file.size > most) throw new Problem(413, `${file.name} has ${megabytes(file.size)}.`);
    const answer = await api.transcribe(file, chosen(), CANDIDATES, mine.signal);
    if (answer.seconds === 0) throw new Problem(415, `${file.name} has 0 seconds.`);
    if (asking === mine) show(answer, wanted, file, labels);
  } catch (error) {
    if (asking !== mine) return; // another recording was given meanwhile
    if (error.name === "AbortError") cancelled();
    else fail(error, wanted.name, () => recognise(wanted));
  } finally {
    if (asking === mine) stopAsking();
  }
}

function stopAsking() {
  asking?.abort();
  asking = null;
  byId("cancel").hidden = true;
}

byId("cancel").addEventListener("click", () => asking?.abort());

function cancelled() {
  given = shown;
  status("Cancelled.");
  if (document.activeElement === byId("cancel")) byId("choose").focus(); // it is hidden now
}

/** Shows an error and hides the last transcript, which might seem to be the result. */
function fail(error, name, tryAgain) {
  status("");
  putAway();
  dom.showError(explain(error, name), tryAgain);
}

function putAway() {
  byId("player").pause();
  byId("result").hidden = true;
  byId("pictures").hidden = true;
  shown = null;
}

function show(answer, wanted, file, labels) {
  const player = byId("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  transcript.show(answer, file.name);
  byId("result-name").textContent =
    `${isolated(file.name)}, ${length(answer.seconds)}, recognised by ${recognisedBy(answer)}`;
  byId("result").hidden = false;
  pictures.show(answer, labels, file);
  correction.show(answer, file);
  shown = wanted;
  const took = `Recognised ${length(answer.seconds)} in ${length(answer.inference_seconds)}`;
  const ended = recorded?.full && recorded.file === file;
  status(ended ? `${took}. The recording was stopped at the server's limit.` : `${took}.`);
  announce(answer.text || "no words were recognised");
}

/** Goes to the result. A short text is read out once, either with its title or with the status. */
function announce(text) {
  const spoken = text.length <= READ_OUT ? text : "";
  const picking = byId("pickers").contains(document.activeElement); // keep the focus there
  byId("result-spoken").textContent = picking ? "" : spoken;
  if (picking) byId("status").append(element("span", { className: "hidden" }, spoken));
  else dom.goTo(byId("result-title"));
}

/** Names the model and scorer of a response: others may have been picked since. */
function recognisedBy({ model: name, scorer }) {
  const title = server.models.find((each) => each.name === name)?.title || name;
  return `${isolated(title)} ${scorer ? `with ${isolated(scorer)}` : "without a scorer"}`;
}

/** Formats a length of time. */
function length(seconds) {
  if (seconds >= 60) return `${clock(seconds)} minutes`;
  return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
}

/** Goes to the recording's view and recognises a recording; see `given`. */
function give(wanted) {
  showRecording();
  return recognise(wanted);
}

acceptFiles((file) => give({ name: file.name, file: () => file }));

byId("sample").addEventListener("click", () =>
  give({ name: "the sample", file: (signal) => findSample(chosen(), signal) }),
);

// --- The microphone

byId("record").addEventListener("click", () => (recorder ? stopRecording() : startRecording()));

// Not disabled meanwhile: the button would lose the focus.
const recordIsBusy = () => byId("record").ariaDisabled === "true";

function setRecordBusy(busy) {
  byId("record").ariaDisabled = String(busy);
}

async function startRecording() {
  if (recordIsBusy()) return;
  dom.clearError();
  stopAsking();
  given = null;
  setRecordBusy(true);
  const starting = new Recorder(chosen(), server.limits, showMessage, showLevel);
  status("Waiting for the microphone …");
  try {
    await starting.start();
  } catch (error) {
    fail(microphoneProblem(error));
    return;
  } finally {
    setRecordBusy(false);
  }
  recorder = starting;
  status("Recording. Speak, then press Stop.");
  putAway();
  ["live-final", "live-partial", "live-note"].forEach((id) => {
    byId(id).textContent = "";
  });
  byId("clock").textContent = "0:00";
  recordingShown(true);
}

async function stopRecording() {
  if (!recorder || recordIsBusy()) return; // it is stopping already
  const stopping = recorder;
  setRecordBusy(true);
  status("Finishing the recording …");
  const file = await stopping.stop();
  recorder = null;
  recorded = stopping.samples ? { file, full: stopping.full } : null;
  setRecordBusy(false);
  showRecording();
  recordingShown(false);
  if (recorded) await recognise({ name: file.name, file: () => file });
  else fail(new Problem("nothing recorded"));
}

// Also if the server refuses it: nobody can speak the same recording again.
byId("save-recording").addEventListener("click", () => save(recorded.file, recorded.file.name));

function recordingShown(on) {
  byId("record").textContent = on ? "Stop" : "Record";
  byId("record").classList.toggle("recording", on);
  byId("live").hidden = !on;
  byId("save-recording").hidden = on || !recorded;
  showGiving();
  ["choose", "sample", "model", "scorer"].forEach((id) => {
    byId(id).disabled = on;
  });
}

function showLevel(loudness, seconds) {
  byId("level").value = loudness;
  byId("clock").textContent = clock(seconds);
  if (recorder?.full) stopRecording();
}

/** Shows a message of the server while the recording continues. */
function showMessage(message) {
  if (message.type === "partial") {
    byId("live-partial").textContent = message.text;
  } else if (message.type === "final") {
    byId("live-final").append(`${message.text} `);
    byId("live-partial").textContent = "";
  } else if (message.type === "ended") {
    byId("live-partial").textContent = ""; // a draft that won't be completed
    byId("live-note").replaceChildren(...dom.explained(explain(message.problem)));
  } else if (message.type === "unplugged") {
    stopRecording();
  }
}

// --- The views

const VIEWS = ["recording", "sets", "corpus"];

function showView() {
  const asked = VIEWS.find((each) => location.hash === `#${each}`) || VIEWS[0];
  if (asked === view) return; // shown already, perhaps with an error
  view = asked;
  corpus.leave();
  if (server) dom.clearError(); // else the error and its button apply to all views
  showGiving();
  for (const each of VIEWS) {
    byId(`${each}-view`).hidden = each !== view;
    if (each === view) byId(`to-${each}`).setAttribute("aria-current", "page");
    else byId(`to-${each}`).removeAttribute("aria-current");
  }
  // They mean nothing to who reads aloud, and a phone's screen is small.
  ["lead", "pickers"].forEach((id) => {
    byId(id).hidden = view === "corpus";
  });
  document.querySelectorAll("audio").forEach((player) => player.pause());
  openView();
}

/** Loads what the view shows, once the server is known. */
function openView() {
  if (!server) return;
  if (view === "sets") sets.open();
  if (view === "corpus" && server.recordings) corpus.open();
}

/** Goes to the recording's view at once: the hashchange event comes later. */
function showRecording() {
  if (view !== "recording") location.hash = "#recording";
  showView();
}

/** A recording in progress is shown, and can be stopped, in all views. */
function showGiving() {
  byId("give").hidden = view !== "recording" && !recorder;
}

// The link isn't followed: "back" would lead to it, and it is in all views.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

addEventListener("hashchange", showView);
// Before the request to the server, so that the view appears at once.
showView();
begin();
