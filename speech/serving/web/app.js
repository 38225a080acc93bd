// The page: what leads from a recording to its words and pictures, and from view to view.

import * as api from "./api.js";
import * as dom from "./dom.js";
import { byId, clock, count, element, isolated, save } from "./dom.js";
import { Pictures } from "./pictures.js";
import { explain, microphoneProblem, Problem } from "./problems.js";
import { Recorder } from "./recorder.js";
import { findSample } from "./sample.js";
import { Sets } from "./sets.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { acceptFiles } from "./upload.js";

const CANDIDATES = 5;
const READ_OUT = 300; // characters of a transcript that are read out by themselves
const WITHOUT_SCORER = "none";

const timeline = new Timeline(byId("player"));
const transcript = new Transcript(timeline);
const pictures = new Pictures(timeline);
const sets = new Sets(chosen, give);

let server = null; // the answer of GET /api/models
let asking = null; // the AbortController of the recording that is being recognised
let recorder = null;
let inSets = null; // whether the test sets are shown, not the recording; null: nothing is yet
let recorded = null; // what was recorded last: {file, full: whether the server takes no more}

const status = (text) => {
  byId("status").textContent = text;
};

function chosen() {
  return { model: byId("model").value, scorer: byId("scorer").value };
}

const model = () => server.models.find(({ name }) => name === byId("model").value);

// --- Models and scorers

async function begin() {
  status("Asking the server for its models …");
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
    "It goes to this server only, and isn't kept.";
  ["model", "scorer", "record", "choose", "sample"].forEach((id) => {
    byId(id).disabled = false;
  });
  if (inSets) sets.open();
}

const option = (value, textContent) => element("option", { value, textContent });
const megabytes = (bytes) => `${Number((bytes / 1e6).toPrecision(2))} MB`;
const duration = (seconds) =>
  seconds < 120 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`;

/** The scorers that fit the model; the server's own choice comes first. */
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
      ? "live text is final as it comes"
      : "while you speak its text is a draft, as it also listens backwards",
  ]
    .filter(Boolean)
    .join(" · ");
}

byId("pickers").addEventListener("submit", (event) => event.preventDefault());
byId("pickers").addEventListener("change", ({ target }) => {
  if (target.id === "model") offerScorers();
  sets.forget();
  dom.clearError();
  if (inSets) sets.open();
  else if (given) recognise(given);
});

// --- A recording

// What was given last: {name, file}; file is called with a signal and gives the File, or a promise.
let given = null;
let shown = null; // what the transcript is of, likewise

/** Recognises what is given, and shows it in place of what was shown before. */
async function recognise(wanted) {
  if (!server) return; // what is wrong with it is shown already
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
    if (asking !== mine) return; // another recording came in between
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

/** Shows an error, and nothing else: what was recognised before would seem to be the answer. */
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
    `${isolated(file.name)}, ${told(answer.seconds)}, heard by ${heardBy(answer)}`;
  byId("result").hidden = false;
  pictures.show(answer, labels, file);
  shown = wanted;
  const took = `Heard ${told(answer.seconds)} in ${told(answer.inference_seconds)}`;
  const ended = recorded?.full && recorded.file === file;
  status(ended ? `${took}. There it was stopped: this server takes no more.` : `${took}.`);
  announce(answer.text || "no words were recognised");
}

/** Leads to the result, and has a short text read out: once, either with its title or the status. */
function announce(text) {
  const spoken = text.length <= READ_OUT ? text : "";
  const picking = byId("pickers").contains(document.activeElement); // who picks goes on picking
  byId("result-spoken").textContent = picking ? "" : spoken;
  if (picking) byId("status").append(element("span", { className: "hidden" }, spoken));
  else dom.goTo(byId("result-title"));
}

/** What made the answer: the pickers may have gone on to others since. */
function heardBy({ model: name, scorer }) {
  const title = server.models.find((each) => each.name === name)?.title || name;
  return `${isolated(title)} ${scorer ? `with ${isolated(scorer)}` : "without a scorer"}`;
}

/** A length of time. */
function told(seconds) {
  if (seconds >= 60) return `${clock(seconds)} minutes`;
  return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
}

/** Goes to the recording's view, and recognises there; see `given`. */
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

// Not disabled meanwhile, which would take the keyboard's focus from it.
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
  const starting = new Recorder(chosen(), server.limits, understood, heard);
  status("Asking for the microphone …");
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
  if (!recorder || recordIsBusy()) return; // it is being stopped
  const stopping = recorder;
  setRecordBusy(true);
  status("Listening to the end …");
  const file = await stopping.stop();
  recorder = null;
  recorded = stopping.samples ? { file, full: stopping.full } : null;
  setRecordBusy(false);
  showRecording();
  recordingShown(false);
  if (recorded) await recognise({ name: file.name, file: () => file });
  else fail(new Problem("nothing recorded"));
}

// Whatever becomes of it at the server: nobody can say it again as it was said.
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

function heard(loudness, seconds) {
  byId("level").value = loudness;
  byId("clock").textContent = clock(seconds);
  if (recorder?.full) stopRecording();
}

/** What the server says while the recording goes on. */
function understood(message) {
  if (message.type === "partial") {
    byId("live-partial").textContent = message.text;
  } else if (message.type === "final") {
    byId("live-final").append(`${message.text} `);
    byId("live-partial").textContent = "";
  } else if (message.type === "ended") {
    byId("live-partial").textContent = ""; // a draft that nothing follows
    byId("live-note").replaceChildren(...dom.explained(explain(message.problem)));
  } else if (message.type === "unplugged") {
    stopRecording();
  }
}

// --- The views

function showView() {
  const asked = location.hash === "#sets";
  if (asked === inSets) return; // it is shown already, perhaps with an error of its own
  inSets = asked;
  if (server) dom.clearError(); // without one, what is wrong and its button hold for all views
  showGiving();
  byId("recording-view").hidden = inSets;
  byId("sets-view").hidden = !inSets;
  for (const [id, current] of [
    ["to-recording", !inSets],
    ["to-sets", inSets],
  ]) {
    if (current) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  document.querySelectorAll("audio").forEach((player) => player.pause());
  if (inSets && server) sets.open();
}

/** Goes to the recording's view at once: the event of the address comes later. */
function showRecording() {
  if (inSets) location.hash = "#recording";
  showView();
}

/** A recording that goes on is seen, and can be stopped, in both views. */
function showGiving() {
  byId("give").hidden = inSets && !recorder;
}

// Its address isn't gone to: "back" would lead to it, and it is in both views.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

addEventListener("hashchange", showView);
// Before the server is asked, so that the view is there at once.
showView();
begin();
