// Runs on the browser's audio thread: converts samples of the microphone to blocks of int16.

const BLOCK = 2048; // samples, about 40 ms at 48 kHz

class Blocks extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.port.onmessage = () => {
      this.send();
      this.port.postMessage(null); // all is sent
    };
  }

  send() {
    if (!this.filled) return;
    const samples = this.block.slice(0, this.filled);
    this.filled = 0;
    this.port.postMessage(samples, [samples.buffer]);
  }

  process([channels]) {
    const length = channels.length ? channels[0].length : 0;
    for (let i = 0; i < length; i += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const sample = Math.max(-1, Math.min(1, sum / channels.length));
      this.block[this.filled] = Math.round(sample * 32767);
      this.filled += 1;
      if (this.filled === BLOCK) this.send();
    }
    return true;
  }
}

registerProcessor("blocks", Blocks);
