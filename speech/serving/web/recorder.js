// Records the microphone: samples are kept for a file, and sent to the server, which returns live
// text. Recording continues if the server doesn't respond: the file matters more.

import { openStream } from "./api.js";
import { Problem } from "./problems.js";
import { HEAD_BYTES, SAMPLE_BYTES, wavFile } from "./wav.js";

// Milliseconds to wait after the recording has stopped: for the last samples, which the browser may
// hold back while its tab is hidden, and for the last words.
const SAMPLES_WAIT = 1000;
const WORDS_WAIT = 15000;

const MARGIN = 0.05; // seconds below the server's limit: resampling may make it a bit longer

const passed = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Most samples of a recording that the server accepts; limits: of the server; rate: in Hz. */
function mostSamples({ upload_bytes: bytes, seconds }, rate) {
  const most = Math.min((seconds - MARGIN) * rate, (bytes - HEAD_BYTES) / SAMPLE_BYTES);
  return Math.max(Math.floor(most), 0);
}

export class Recorder {
  /**
   * @param chosen {model, scorer}
   * @param limits of the server; samples beyond them are dropped
   * @param onMessage called with the server's messages (see openStream), with
   *   {type: "ended", problem} if no more of them come, and with {type: "unplugged"} if the
   *   microphone was disconnected
   * @param onBlock called with each block's loudness from 0 to 1, and the seconds so far
   */
  constructor(chosen, limits, onMessage, onBlock) {
    this.chosen = chosen;
    this.limits = limits;
    this.onMessage = onMessage;
    this.onBlock = onBlock;
    this.blocks = [];
    this.samples = 0;
    this.most = Infinity; // samples; set once the microphone's rate is known
  }

  /** Whether it has reached the server's limits. */
  get full() {
    return this.samples >= this.most;
  }

  /** Starts recording. Throws what getUserMedia throws; see microphoneProblem. */
  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    try {
      this.context = new AudioContext();
      this.most = mostSamples(this.limits, this.context.sampleRate);
      await this.context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
      this.node = new AudioWorkletNode(this.context, "blocks", { numberOfOutputs: 0 });
    } catch (error) {
      this.release();
      throw error;
    }
    this.connect();
    this.node.port.onmessage = ({ data }) => this.take(data);
    this.stream.getAudioTracks()[0].onended = () => this.onMessage({ type: "unplugged" });
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    await this.context.resume();
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
    if (block === null) {
      this.flushed();
      return;
    }
    const kept = block.subarray(0, this.most - this.samples);
    if (kept.length) {
      this.blocks.push(kept);
      this.samples += kept.length;
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send(kept);
    }
    const loudest = block.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.onBlock(loudest / 32768, this.samples / this.context.sampleRate);
  }

  release() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }

  /** Stops, waits for the last words, and returns the recording as a wav file. */
  async stop() {
    const flushed = new Promise((resolve) => {
      this.flushed = resolve;
    });
    this.node.port.postMessage("flush");
    await Promise.race([flushed, passed(SAMPLES_WAIT)]);
    const rate = this.context.sampleRate;
    this.release();
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ end: true }));
      await Promise.race([this.ended, passed(WORDS_WAIT)]);
    }
    this.finished = true;
    this.socket.close();
    return wavFile(this.blocks, rate, "recording.wav");
  }
}
