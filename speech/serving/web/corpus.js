// The view where visitors read sentences aloud. One button leads through all of it: Record, Stop,
// and then Next or Record again.

import * as api from "./api.js";
import { byId, clearError, clock, count, element, isolated, showError } from "./dom.js";
import { colours, extremes } from "./drawing.js";
import { Microphone, passed } from "./microphone.js";
import { newTakeId } from "./outbox.js";
import { explain, microphoneProblem, Problem } from "./problems.js";

const LAST_SOUND = 300; // milliseconds that are recorded after Stop: it is pressed too early

export class Corpus {
  /**
   * @param outbox where takes are sent from
   * @param limits returns the server's limits
   */
  constructor(outbox, limits) {
    this.outbox = outbox;
    this.limits = limits;
    this.prompts = []; // as the server describes them
    this.at = 0;
    this.microphone = null;
    this.sound = null; // a Blob of the shown take, if it is at hand
    byId("consent-form").addEventListener("submit", (event) => this.enter(event));
    byId("take").addEventListener("click", () => this.act());
    byId("take").addEventListener("keydown", (event) => {
      if (event.repeat) event.preventDefault(); // a key that is held down presses it once
    });
    byId("take-again").addEventListener("click", () => this.start());
    byId("take-back").addEventListener("click", () => this.go(this.at - 1));
    byId("take-skip").addEventListener("click", () => this.go(this.at + 1));
    byId("take-listen").addEventListener("click", () => this.listen());
    byId("forget").addEventListener("click", () => this.askToForget(true));
    byId("forget-no").addEventListener("click", () => this.askToForget(false));
    byId("forget-yes").addEventListener("click", () => this.forget());
    outbox.addEventListener("stored", ({ detail }) => this.stored(detail));
    outbox.addEventListener("refused", ({ detail }) => this.refused(detail));
    outbox.addEventListener("waiting", ({ detail }) => this.wait(detail));
    addEventListener("beforeunload", (event) => {
      if (this.microphone || outbox.atRisk) event.preventDefault();
    });
  }

  /** Shows what the server has. */
  async open() {
    if (this.microphone) return;
    try {
      const found = await api.recordings();
      this.consent = found.consent;
      this.prompts = found.prompts;
      this.corrections = found.corrections;
      byId("consent-text").textContent = found.consent;
      byId("speaker-name").value ||= found.name || "";
      this.showForm(!found.agreed);
      byId("speaker-about").textContent = `Recorded as ${isolated(found.name || "")}.`;
      this.at = Math.max(this.prompts.findIndex((prompt) => !this.isDone(prompt)), 0);
      this.show();
      if (found.agreed) this.outbox.send();
    } catch (error) {
      this.fail(error, () => this.open());
    }
  }

  /** Drops a recording in progress, as its Stop button is out of sight; keeps one that ends. */
  leave() {
    if (!this.busy) this.drop();
  }

  drop() {
    this.microphone?.release();
    this.microphone = null;
  }

  /** Says that takes wait; asks for the consent if they wait for that. */
  wait({ problem, asks }) {
    this.show();
    if (!asks || byId("corpus-view").hidden || !byId("consent-form").hidden) return;
    this.fail(problem);
    this.open();
  }

  fail(error, tryAgain) {
    showError(explain(error, "the recording"), tryAgain);
  }

  showForm(asks) {
    byId("consent-form").hidden = !asks;
    byId("reading").hidden = asks || !this.prompts.length;
    byId("no-prompts").hidden = asks || this.prompts.length > 0;
    byId("speaker-data").hidden = asks;
  }

  async enter(event) {
    event.preventDefault();
    clearError();
    try {
      const before = api.speakerToken();
      await api.enter(byId("speaker-name").value, this.consent);
      await this.outbox.hand(before); // a server that lost its database gives a new token
      byId("consent-agree").checked = false; // another text needs another tick
      await this.open();
      byId("take").focus();
    } catch (error) {
      this.fail(error, () => this.open());
    }
  }

  get prompt() {
    return this.prompts[this.at];
  }

  isDone({ prompt_id: id, take }) {
    return take?.usable || this.outbox.of(id) !== undefined;
  }

  /** Goes to another prompt. */
  go(at) {
    if (this.microphone) return;
    byId("take-player").pause();
    this.at = (at + this.prompts.length) % this.prompts.length;
    this.sound = null;
    this.show();
  }

  /** Goes to the next prompt that isn't done; stays if all are. */
  next() {
    const order = [...this.prompts.keys()].map((i) => (this.at + 1 + i) % this.prompts.length);
    const open = order.find((i) => !this.isDone(this.prompts[i]));
    this.go(open ?? this.at + 1);
  }

  act() {
    if (this.microphone) return this.stop();
    if (this.prompt && this.isDone(this.prompt)) return this.next();
    return this.start();
  }

  async start() {
    if (this.microphone || this.busy) return;
    clearError();
    byId("take-player").pause();
    this.heard(0, 0);
    this.busy = true;
    const microphone = new Microphone(
      this.limits(),
      (loudness, seconds) => this.heard(loudness, seconds),
      () => this.stop(),
    );
    try {
      await microphone.start();
      if (byId("corpus-view").hidden) {
        microphone.release(); // the view was left meanwhile
      } else {
        this.microphone = microphone;
        this.reading = this.prompt;
        this.sound = null;
      }
    } catch (error) {
      showError(explain(microphoneProblem(error)));
    }
    this.busy = false;
    this.show();
    byId("take").focus();
  }

  heard(loudness, seconds) {
    byId("take-level").value = loudness;
    byId("take-clock").textContent = clock(seconds, 1);
    if (this.microphone?.full) this.stop();
  }

  async stop() {
    if (this.busy) return;
    this.busy = true;
    const { microphone } = this;
    await passed(LAST_SOUND);
    const file = await microphone.stop("take.wav");
    const dropped = this.microphone !== microphone;
    this.microphone = null;
    this.busy = false;
    if (dropped) return;
    if (microphone.samples) {
      this.sound = file;
      const { prompt_id, text } = this.reading;
      await this.outbox.add({ takeId: newTakeId(), file, fields: { prompt_id, text } });
    } else {
      showError(explain(new Problem("nothing recorded")));
    }
    this.show();
  }

  stored({ take, fields }) {
    const prompt = this.prompts.find(({ prompt_id: id }) => id === fields.prompt_id);
    if (prompt) prompt.take = take;
    else this.corrections += 1;
    this.show();
    if (prompt && prompt === this.prompt && !this.microphone) this.announce(take);
  }

  /** Reads out what the checks say of the take that was just recorded. */
  announce({ problem, usable }) {
    byId("take-check").textContent = problem || "Good.";
    byId("take-check").className = usable ? "good" : "error";
  }

  refused({ problem }) {
    this.fail(problem);
    this.show();
  }

  // --- What is shown

  show() {
    this.showProgress();
    if (!this.prompt) return;
    const { text, take, prompt_id: id } = this.prompt;
    const [recording, waiting] = [this.microphone !== null, this.outbox.of(id) !== undefined];
    byId("prompt").textContent = text;
    byId("take").textContent = this.nameAction(recording, take, waiting);
    byId("take").classList.toggle("recording", recording);
    byId("take-live").hidden = !recording;
    byId("take-wave").hidden = recording || !(take || waiting);
    byId("take-listen").hidden = recording || !(take || waiting);
    byId("take-again").hidden = recording || !(take?.usable || waiting);
    byId("take-back").disabled = recording;
    byId("take-skip").disabled = recording;
    if (recording || (!take && !waiting)) byId("take-check").textContent = "";
    else if (waiting) byId("take-check").textContent = "Waiting for the server …";
    else this.announce(take);
    if (!recording && (take || waiting)) this.drawSound();
  }

  nameAction(recording, take, waiting) {
    if (recording) return "Stop";
    if (take?.usable || waiting) return "Next";
    return take ? "Record again" : "Record";
  }

  showProgress() {
    const done = this.prompts.filter((prompt) => this.isDone(prompt)).length;
    const left = this.prompts.length - done;
    const unread = this.prompts.filter((each) => !each.others && !this.isDone(each)).length;
    byId("progress").max = Math.max(this.prompts.length, 1);
    byId("progress").value = done;
    const wanted = left
      ? `${left} still wanted${unread ? `, ${unread} of them read by nobody yet` : ""}.`
      : "All sentences are recorded. Thank you!";
    byId("progress-text").textContent = `${done} of ${count(this.prompts.length, "sentence")}: ${wanted}`;
    const waiting = this.outbox.takes.size;
    byId("outbox-note").textContent = waiting
      ? `${count(waiting, "recording")} not sent yet. ${this.outbox.atRisk ? "Keep this page open: it" : "This browser"} keeps and sends ${waiting === 1 ? "it" : "them"}.`
      : "";
  }

  /** The sound of the shown take: just recorded, waiting, or the server's. */
  async soundOf(prompt) {
    const waiting = this.outbox.of(prompt.prompt_id);
    if (waiting) return waiting.file;
    if (this.sound) return this.sound;
    return api.takeSound(prompt.take.take_id);
  }

  async drawSound() {
    const { prompt } = this;
    try {
      const sound = await this.soundOf(prompt);
      if (prompt !== this.prompt) return;
      this.sound = sound;
      const context = new OfflineAudioContext(1, 1, 16000);
      const decoded = await context.decodeAudioData(await sound.arrayBuffer());
      if (prompt === this.prompt) drawWave(byId("take-wave"), decoded.getChannelData(0));
    } catch {
      drawWave(byId("take-wave"), new Float32Array(1)); // the server's sentence is shown anyway
    }
  }

  async listen() {
    const player = byId("take-player");
    try {
      const sound = await this.soundOf(this.prompt);
      URL.revokeObjectURL(player.src);
      player.src = URL.createObjectURL(sound);
      await player.play();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(new Problem("no recording", error.message));
    }
  }

  // --- Deleting

  askToForget(asks) {
    byId("forget").hidden = asks;
    byId("forget-sure").hidden = !asks;
    const takes = this.prompts.filter(({ take }) => take).length;
    byId("forget-text").textContent =
      `Delete ${count(takes, "recording")}, ${count(this.corrections, "corrected transcript")}, ` +
      "and your name? This can't be undone.";
    byId(asks ? "forget-no" : "forget").focus();
  }

  async forget() {
    this.drop();
    try {
      await this.outbox.clear();
      await api.removeSpeaker();
      byId("speaker-name").value = "";
      this.askToForget(false);
      await this.open();
      byId("corpus-title").focus();
      byId("status").textContent = "Everything of yours was deleted.";
    } catch (error) {
      this.fail(error, () => this.forget());
    }
  }
}

/** Draws a waveform: the extremes of each pixel's samples. */
function drawWave(canvas, samples) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = colours().accent;
  const loudest = samples.reduce((most, each) => Math.max(most, Math.abs(each)), 0.05);
  for (let x = 0; x < width; x += 1) {
    const [from, to] = [x, x + 1].map((each) => (each * samples.length) / width);
    const [low, high] = extremes(samples, samples, from, to);
    const scale = (0.45 * height) / loudest;
    pen.fillRect(x, height / 2 - high * scale, 1, Math.max((high - low) * scale, ratio));
  }
}
