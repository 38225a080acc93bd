// Records the microphone and sends the samples to the server, which returns live text. Recording
// continues if the server doesn't respond: the file matters more.

import { openStream } from "./api.js";
import { Microphone, passed } from "./microphone.js";
import { Problem } from "./problems.js";

const WORDS_WAIT = 15000; // milliseconds to wait for the last words

export class Recorder extends Microphone {
  /**
   * @param chosen {model, scorer}
   * @param limits of the server; samples beyond them are dropped
   * @param onMessage called with the server's messages (see openStream), with
   *   {type: "ended", problem} if no more of them come, and with {type: "unplugged"} if the
   *   microphone was disconnected
   * @param onBlock called with each block's loudness from 0 to 1, and the seconds so far
   */
  constructor(chosen, limits, onMessage, onBlock) {
    super(limits, onBlock, () => onMessage({ type: "unplugged" }));
    this.chosen = chosen;
    this.onMessage = onMessage;
  }

  /** Starts recording. Throws what getUserMedia throws; see microphoneProblem. */
  async start() {
    await super.start();
    this.connect();
  }

  connect() {
    this.socket = openStream(this.chosen);
    this.ended = new Promise((resolve) => {
      this.socket.onclose = () => {
        if (!this.finished) this.lost(new Problem("live text lost"));
        this.finished = true;
        resolve();
      };
    });
    this.socket.onopen = () => {
      this.socket.send(JSON.stringify({ sample_rate: this.context.sampleRate }));
      this.blocks.forEach((block) => this.socket.send(block));
    };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "error") this.lost(new Problem("live text ended", message.error));
      else this.onMessage(message);
      if (message.type === "done") this.finished = true;
    };
  }

  lost(problem) {
    this.finished = true;
    this.onMessage({ type: "ended", problem });
  }

  take(block) {
    const kept = super.take(block);
    if (kept.length && this.socket?.readyState === WebSocket.OPEN) this.socket.send(kept);
    return kept;
  }

  /** Stops, waits for the last words, and returns the recording as a wav file. */
  async stop() {
    const file = await super.stop();
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ end: true }));
      await Promise.race([this.ended, passed(WORDS_WAIT)]);
    }
    this.finished = true;
    this.socket.close();
    return file;
  }
}
