// The four pictures: each draws itself into a frame, and describes in words what is at a time.
//
// A view has draw(frame), rows (the number that arrow keys can move through), rowAt(y, frame) and
// describe(time, row): the value at this time, of this row if it isn't null.

import { isolated } from "./dom.js";
import { AXIS, extremes, FONT, GUTTER, matrixImage, ramp } from "./drawing.js";

const WORDS = 20; // pixels for the words above the waveform
const LETTERS = 20; // pixels for the letters above their probabilities
const NARROWEST = 5; // pixels of the narrowest readable word; an hour has ten thousand to measure
const ROW = 15; // pixels of a letter's row
const DENSE = 1.5; // pixels of an output, below which the alignment is drawn thinly
const QUIETEST = 0.05; // a waveform below this level isn't enlarged further
const MOMENT = 0.02; // seconds that the level is measured over
const RANGE = [0.15, 0.998]; // shares of a matrix's values that have the first and the last shade

export class WaveView {
  constructor(recognition) {
    this.recognition = recognition;
    this.rows = 0;
    this.samples = null; // Float32Array of the whole recording, finer than the answer's waveform
  }

  recolour() {}

  draw(frame, time) {
    const { pen, colour } = frame;
    const { lowest, highest } = this.recognition.answer.waveform;
    const middle = (WORDS + frame.bottom) / 2;
    const loudest = Math.max(...highest, ...lowest.map(Math.abs), QUIETEST);
    const scale = (frame.bottom - WORDS - 4) / 2 / loudest;
    const now = this.recognition.wordAt(time);
    frame.inside(() => {
      this.recognition.words.forEach((word) => {
        const left = frame.x(word.start_time);
        const right = frame.x(word.start_time + word.duration);
        if (right < 0 || left > frame.width) return;
        pen.fillStyle = word === now ? colour.said : colour.panel;
        pen.fillRect(left, 0, Math.max(right - left, 1), frame.bottom);
      });
      pen.fillStyle = colour.accent;
      this.columns(frame).forEach(([low, high], i) => {
        pen.fillRect(GUTTER + i, middle - high * scale, 1, Math.max((high - low) * scale, 1));
      });
      this.drawWords(frame);
    });
    frame.name(loudest.toFixed(2), WORDS + 8);
    frame.name("0", middle);
    frame.axis();
  }

  /** The extremes of each pixel; computed again when another part is shown. */
  columns(frame) {
    const part = [frame.start, frame.span, frame.width, this.samples !== null].join();
    if (part !== this.part) {
      this.part = part;
      this.found = Array.from({ length: Math.max(frame.width - GUTTER, 0) }, (_, i) =>
        this.extremes(frame.time(GUTTER + i), frame.time(GUTTER + i + 1)),
      );
    }
    return this.found;
  }

  /** Lowest and highest sample between two times: of the sound itself if the browser decoded it. */
  extremes(start, end) {
    if (this.samples) {
      const rate = this.samples.length / this.recognition.answer.seconds;
      return extremes(this.samples, this.samples, start * rate, end * rate);
    }
    const { lowest, highest } = this.recognition.answer.waveform;
    const rate = lowest.length / this.recognition.answer.seconds;
    return extremes(lowest, highest, start * rate, end * rate);
  }

  /** Draws each word above its sound, where it fits. */
  drawWords(frame) {
    const { pen, colour } = frame;
    pen.font = FONT;
    pen.textAlign = "left";
    pen.fillStyle = colour.text;
    let free = GUTTER;
    this.recognition.words.forEach((word, i) => {
      const left = Math.max(frame.x(word.start_time), GUTTER) + 2;
      const end = frame.x(word.start_time + word.duration);
      const next = this.recognition.words[i + 1];
      const limit = next ? Math.max(frame.x(next.start_time), end) : frame.width;
      const room = Math.min(limit, frame.width) - left;
      if (left < free || end < GUTTER || room < NARROWEST) return;
      const width = pen.measureText(word.word).width;
      if (width > room) return;
      pen.fillText(word.word, left, WORDS / 2);
      free = left + width + 3;
    });
  }

  rowAt() {
    return null;
  }

  describe(time) {
    const [low, high] = this.extremes(time - MOMENT / 2, time + MOMENT / 2);
    const level = Math.max(high, -low);
    return `level ${level.toFixed(2)}`;
  }
}

/** A stored value of 0..255 in the matrix's unit. */
const unit = ({ lowest, highest }, stored) => lowest + ((highest - lowest) * stored) / 255;

/** The range of nearly all of a matrix's values, in its unit. */
function usualRange(matrix) {
  const sorted = matrix.values.slice().sort();
  return RANGE.map((share) => unit(matrix, sorted[Math.floor(share * (sorted.length - 1))]));
}

/** The base of spectrogram and features: a matrix for each segment, low rows at the bottom. */
class MatrixView {
  constructor(recognition, matrix) {
    this.recognition = recognition;
    this.matrix = matrix;
    this.rows = recognition.details[0]?.[matrix].rows || 0;
  }

  /** Colours all segments with the same shades, ignoring a few outliers. */
  recolour(colour) {
    const shades = ramp(colour);
    const rows = Array.from({ length: this.rows }, (_, i) => this.rows - 1 - i);
    const matrices = this.recognition.details.map((detail) => detail[this.matrix]);
    const ranges = matrices.map((matrix) => usualRange(matrix));
    const lowest = Math.min(...ranges.map(([low]) => low));
    const highest = Math.max(...ranges.map(([, high]) => high));
    this.images = matrices.map((matrix) => {
      const own = Array.from({ length: 256 }, (_, stored) => {
        const share = (unit(matrix, stored) - lowest) / (highest - lowest || 1);
        return shades[Math.round(255 * Math.min(Math.max(share, 0), 1))];
      });
      return matrixImage(matrix.values, matrix.columns, rows, own);
    });
  }

  draw(frame) {
    this.recognition.details.forEach((detail, i) => {
      const seconds = detail[this.matrix].columns * detail.step_seconds;
      frame.image(this.images[i], detail.start, seconds, 0, frame.bottom);
    });
    this.ticks().forEach(({ row, text }) => {
      const y = frame.bottom * (1 - row / this.rows);
      frame.name(text, Math.min(Math.max(y, 7), frame.bottom - 6));
    });
    frame.axis();
  }

  rowAt(y, frame) {
    const row = Math.floor((1 - y / frame.bottom) * this.rows);
    return row >= 0 && row < this.rows ? row : null;
  }

  rowMiddle(row, frame) {
    return frame.bottom * (1 - (row + 0.5) / this.rows);
  }

  /** The value at a time: of the row, or of the strongest one if the row is null. */
  valueAt(time, row) {
    const detail = this.recognition.detailAt(time);
    if (!detail) return null;
    const matrix = detail[this.matrix];
    const column = this.recognition.column(detail, time, detail.step_seconds, matrix);
    const values = Array.from({ length: matrix.rows }, (_, each) =>
      unit(matrix, matrix.values[each * matrix.columns + column]),
    );
    const shown = row ?? values.indexOf(Math.max(...values));
    return { detail, row: shown, value: values[shown] };
  }
}

export class SpectrogramView extends MatrixView {
  constructor(recognition) {
    super(recognition, "spectrogram");
  }

  ticks() {
    const highest = this.recognition.details[0]?.highest_frequency || 0;
    return [0, 0.25, 0.5, 0.75, 1].map((share) => ({
      row: share * this.rows,
      text: share ? `${((share * highest) / 1000).toFixed(0)} kHz` : "0",
    }));
  }

  describe(time, row) {
    const found = this.valueAt(time, row);
    if (!found) return "no data here";
    const hertz = ((found.row + 0.5) / this.rows) * found.detail.highest_frequency;
    const where = `${Math.round(hertz).toLocaleString("en")} Hz`;
    return `${row === null ? "strongest at " : ""}${where}, ${found.value.toFixed(0)} dB`;
  }
}

export class FeaturesView extends MatrixView {
  constructor(recognition) {
    super(recognition, "features");
  }

  ticks() {
    const step = this.rows > 40 ? 20 : 10;
    const count = Math.floor((this.rows - 1) / step) + 1;
    return Array.from({ length: count }, (_, i) => ({ row: i * step + 0.5, text: `${i * step}` }));
  }

  describe(time, row) {
    const found = this.valueAt(time, row);
    if (!found) return "no data here";
    const bin = `bin ${found.row}`;
    return `${row === null ? "strongest in " : ""}${bin}: ${found.value.toFixed(2)}`;
  }
}

export class LettersView {
  constructor(recognition) {
    this.recognition = recognition;
    this.rows = recognition.rows.length;
  }

  /** The height of the canvas, by the number of letters. */
  get height() {
    return LETTERS + this.rows * ROW + AXIS;
  }

  recolour(colour) {
    const shades = ramp(colour, 0.6);
    // As high as they are drawn, so that smoothing by the browser doesn't mix letters.
    const rows = this.recognition.rows.flatMap((row) => Array(ROW).fill(row));
    this.images = this.recognition.details.map(({ probabilities }) =>
      matrixImage(probabilities.values, probabilities.columns, rows, shades),
    );
  }

  y(label) {
    return LETTERS + (this.recognition.rows.indexOf(label) + 0.5) * ROW;
  }

  draw(frame) {
    this.recognition.details.forEach((detail, i) =>
      frame.image(this.images[i], detail.start, detail.seconds, LETTERS, frame.bottom),
    );
    this.recognition.rows.forEach((label) => {
      const named = label === this.recognition.blank ? frame.colour.muted : frame.colour.text;
      frame.name(this.recognition.name(label), this.y(label), named);
    });
    frame.inside(() => this.recognition.details.forEach((detail) => this.drawPath(frame, detail)));
    frame.axis();
  }

  drawPath(frame, detail) {
    const { pen, colour } = frame;
    const moments = detail.path.map((_, i) => detail.start + (i + 0.5) * detail.output_seconds);
    const trace = () => {
      pen.beginPath();
      detail.path.forEach((label, i) => pen.lineTo(frame.x(moments[i]), this.y(label)));
      pen.stroke();
    };
    // With many outputs side by side a thick line would hide the probabilities.
    const width = frame.x(detail.output_seconds) - frame.x(0);
    const dense = width < DENSE;
    pen.lineJoin = "round";
    pen.setLineDash([]);
    if (!dense) {
      pen.strokeStyle = colour.page;
      pen.lineWidth = 3.5;
      pen.globalAlpha = 0.7;
      trace();
    }
    pen.globalAlpha = Math.min(Math.max(width / (2 * DENSE), 0.3), 1);
    pen.strokeStyle = colour.path;
    pen.lineWidth = dense ? 1 : 1.5;
    trace();
    pen.globalAlpha = 1;
    const letters = this.recognition.letters(detail).map(({ label, start, end }) => ({
      label,
      text: this.recognition.labels[label],
      x: (frame.x(start) + frame.x(end)) / 2,
    }));
    letters.forEach(({ label, x }) => {
      pen.fillStyle = colour.path;
      pen.strokeStyle = colour.page;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.arc(x, this.y(label), dense ? 1.5 : 3.5, 0, 2 * Math.PI);
      pen.fill();
      if (!dense) pen.stroke();
    });
    if (!dense) this.drawLetters(frame, letters);
  }

  /** Draws the text above its alignment: all letters of a word, or none if they don't fit. */
  drawLetters(frame, letters) {
    const { pen, colour } = frame;
    pen.font = `bold ${FONT}`;
    pen.textAlign = "center";
    pen.fillStyle = colour.text;
    const width = ({ text }) => pen.measureText(text).width;
    const words = [[]];
    letters.forEach((letter) => {
      if (letter.text === " ") words.push([]);
      else words.at(-1).push(letter);
    });
    const fits = (letter, i, word) =>
      i === 0 || letter.x - word[i - 1].x > (width(letter) + width(word[i - 1])) / 2;
    words
      .filter((word) => word.every(fits))
      .flat()
      .forEach(({ text, x }) => pen.fillText(text, x, LETTERS / 2));
    pen.font = FONT;
  }

  rowAt(y, frame) {
    if (y < LETTERS || y >= frame.bottom) return null;
    return Math.min(Math.floor((y - LETTERS) / ROW), this.rows - 1);
  }

  rowMiddle(row) {
    return LETTERS + (row + 0.5) * ROW;
  }

  describe(time, row) {
    const label = this.recognition.labelAt(time);
    if (label === null) return "no data here";
    const value = (each) =>
      `${isolated(this.recognition.name(each))} ${(100 * this.recognition.probability(time, each)).toFixed(0)} %`;
    const pointed = row === null ? null : this.recognition.rows[row];
    const aligned = `letter ${value(label)}`;
    return pointed === null || pointed === label ? aligned : `${aligned}, and ${value(pointed)}`;
  }
}
