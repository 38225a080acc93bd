// Corrects the transcript of a recording, and keeps both for training.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { newTakeId } from "./outbox.js";

const LONGEST = 300; // seconds that the server takes as a correction

export class Correction {
  /** outbox: where corrections are sent from */
  constructor(outbox) {
    this.outbox = outbox;
    byId("correct").addEventListener("click", () => this.open(true));
    byId("correction-no").addEventListener("click", () => this.open(false));
    byId("correction").addEventListener("submit", (event) => this.keep(event));
    outbox.addEventListener("stored", ({ detail }) => {
      if (!detail.fields.prompt_id) this.note("The correction is stored.");
    });
    outbox.addEventListener("waiting", ({ detail }) => {
      const agree = "It is stored once you have agreed again, under Read aloud.";
      this.note(detail.asks ? agree : "Waiting for the server …");
    });
    outbox.addEventListener("refused", ({ detail }) => this.note(detail.problem.message));
  }

  /** Offers the correction of a response of POST /api/transcribe; file: the recording. */
  show(answer, file) {
    this.answer = answer;
    this.file = file;
    byId("correct").disabled = answer.seconds > LONGEST; // no training reads it
    this.note("");
    this.open(false, false);
  }

  open(on, focus = true) {
    byId("correction").hidden = !on;
    byId("correct").hidden = on;
    if (on) byId("correction-text").value = this.answer.text;
    const agreed = api.speakerToken() !== null;
    byId("correction-consent").hidden = agreed;
    byId("correction-yes").disabled = !agreed;
    if (focus) byId(on ? "correction-text" : "correct").focus();
  }

  note(text) {
    byId("correction-note").textContent = text;
  }

  async keep(event) {
    event.preventDefault();
    const text = byId("correction-text").value.trim().replace(/\s+/g, " ");
    if (!text) {
      this.note("Write what was said, or press Cancel.");
      return;
    }
    const { text: heard, model, scorer } = this.answer;
    this.open(false);
    this.note("Sending …");
    await this.outbox.add({
      takeId: newTakeId(),
      file: this.file,
      fields: { text, heard, model, scorer },
    });
  }
}
