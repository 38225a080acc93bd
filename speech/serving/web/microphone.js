// The microphone: its samples, within the server's limits, as a wav file.

import { HEAD_BYTES, SAMPLE_BYTES, wavFile } from "./wav.js";

// Milliseconds to wait after the recording has stopped for the last samples, which the browser may
// hold back while its tab is hidden.
const SAMPLES_WAIT = 1000;

const MARGIN = 0.05; // seconds below the server's limit: resampling may make it a bit longer

export const passed = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Most samples of a recording that the server accepts; limits: of the server; rate: in Hz. */
function mostSamples({ upload_bytes: bytes, seconds }, rate) {
  const most = Math.min((seconds - MARGIN) * rate, (bytes - HEAD_BYTES) / SAMPLE_BYTES);
  return Math.max(Math.floor(most), 0);
}

export class Microphone {
  /**
   * @param limits of the server; samples beyond them are dropped
   * @param onBlock called with each block's loudness from 0 to 1, and the seconds so far
   * @param onUnplugged called if the microphone was disconnected
   */
  constructor(limits, onBlock, onUnplugged) {
    this.limits = limits;
    this.onBlock = onBlock;
    this.onUnplugged = onUnplugged;
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
    this.node.port.onmessage = ({ data }) => (data === null ? this.flushed() : this.take(data));
    this.stream.getAudioTracks()[0].onended = () => this.onUnplugged();
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    await this.context.resume();
  }

  /** Keeps a block of samples; returns what was kept of it. */
  take(block) {
    const kept = block.subarray(0, this.most - this.samples);
    if (kept.length) {
      this.blocks.push(kept);
      this.samples += kept.length;
    }
    const loudest = block.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.onBlock(loudest / 32768, this.samples / this.context.sampleRate);
    return kept;
  }

  release() {
    this.stream.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
  }

  /** Stops, and returns the recording as a wav file. */
  async stop(name = "recording.wav") {
    const flushed = new Promise((resolve) => {
      this.flushed = resolve;
    });
    this.node.port.postMessage("flush");
    await Promise.race([flushed, passed(SAMPLES_WAIT)]);
    const rate = this.context.sampleRate;
    this.release();
    return wavFile(this.blocks, rate, name);
  }
}
