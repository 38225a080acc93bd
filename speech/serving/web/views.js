// The four pictures: each draws itself into a frame, and says in words what lies at a moment.
//
// A view has draw(frame), rows (how many an arrow key can go through), rowAt(y, frame) and
// tell(time, row): what is at this moment, in this row if one is pointed at.

import { isolated } from "./dom.js";
import { AXIS, FONT, GUTTER, matrixImage, ramp } from "./drawing.js";

const WORDS = 20; // pixels for the words above the waveform
const LETTERS = 20; // pixels for the letters above their probabilities
const NARROWEST = 5; // pixels of a word that can be read; an hour has ten thousand to measure
const ROW = 15; // pixels of a letter's row
const DENSE = 1.5; // pixels of an output, below which its way is drawn thinly
const QUIETEST = 0.05; // a waveform that is as loud as this, or less, isn't enlarged further
const MOMENT = 0.02; // seconds, over which the level is told
const RANGE = [0.15, 0.998]; // shares of a matrix's values that have the first and the last shade

export class WaveView {
  constructor(heard) {
    this.heard = heard;
    this.rows = 0;
    this.samples = null; // Float32Array of the whole recording, finer than the answer's waveform
  }

  recolour() {}

  draw(frame, time) {
    const { pen, colour } = frame;
    const { lowest, highest } = this.heard.answer.waveform;
    const middle = (WORDS + frame.bottom) / 2;
    const loudest = Math.max(...highest, ...lowest.map(Math.abs), QUIETEST);
    const scale = (frame.bottom - WORDS - 4) / 2 / loudest;
    const now = this.heard.wordAt(time);
    frame.inside(() => {
      this.heard.words.forEach((word) => {
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

  /** The extremes of each pixel; they are looked for anew when another stretch is shown. */
  columns(frame) {
    const stretch = [frame.start, frame.span, frame.width, this.samples !== null].join();
    if (stretch !== this.stretch) {
      this.stretch = stretch;
      this.found = Array.from({ length: Math.max(frame.width - GUTTER, 0) }, (_, i) =>
        this.extremes(frame.time(GUTTER + i), frame.time(GUTTER + i + 1)),
      );
    }
    return this.found;
  }

  /** Lowest and highest sample between two moments: of the sound itself if the browser has it. */
  extremes(start, end) {
    if (this.samples) {
      const rate = this.samples.length / this.heard.answer.seconds;
      return range(this.samples, this.samples, start * rate, end * rate);
    }
    const { lowest, highest } = this.heard.answer.waveform;
    const rate = lowest.length / this.heard.answer.seconds;
    return range(lowest, highest, start * rate, end * rate);
  }

  /** Each word above its sound, where it has room. */
  drawWords(frame) {
    const { pen, colour } = frame;
    pen.font = FONT;
    pen.textAlign = "left";
    pen.fillStyle = colour.text;
    let free = GUTTER;
    this.heard.words.forEach((word, i) => {
      const left = Math.max(frame.x(word.start_time), GUTTER) + 2;
      const end = frame.x(word.start_time + word.duration);
      const behind = this.heard.words[i + 1];
      const limit = behind ? Math.max(frame.x(behind.start_time), end) : frame.width;
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

  tell(time) {
    const [low, high] = this.extremes(time - MOMENT / 2, time + MOMENT / 2);
    const level = Math.max(high, -low);
    return `level ${level.toFixed(2)}`;
  }
}

/** The smallest of `low` and the largest of `high` between two places, one of each at least. */
function range(low, high, from, to) {
  const first = Math.min(Math.max(Math.floor(from), 0), low.length - 1);
  const last = Math.min(Math.max(Math.ceil(to), first + 1), low.length);
  let [smallest, largest] = [low[first], high[first]];
  for (let i = first + 1; i < last; i += 1) {
    smallest = Math.min(smallest, low[i]);
    largest = Math.max(largest, high[i]);
  }
  return [smallest || 0, largest || 0];
}

/** A stored value of 0..255 in the matrix's own unit. */
const unit = ({ lowest, highest }, stored) => lowest + ((highest - lowest) * stored) / 255;

/** Between these values, in the matrix's own unit, nearly all of it lies. */
function usualRange(matrix) {
  const sorted = matrix.values.slice().sort();
  return RANGE.map((share) => unit(matrix, sorted[Math.floor(share * (sorted.length - 1))]));
}

/** What spectrogram and features share: a matrix for each stretch, low rows below. */
class MatrixView {
  constructor(heard, matrix) {
    this.heard = heard;
    this.matrix = matrix;
    this.rows = heard.details[0]?.[matrix].rows || 0;
  }

  /** All stretches in the same shades, which a few outliers don't use up. */
  recolour(colour) {
    const shades = ramp(colour);
    const rows = Array.from({ length: this.rows }, (_, i) => this.rows - 1 - i);
    const matrices = this.heard.details.map((detail) => detail[this.matrix]);
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
    this.heard.details.forEach((detail, i) => {
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

  /** The value at a moment: the row's, or where none is pointed at the strongest one's. */
  valueAt(time, row) {
    const detail = this.heard.detailAt(time);
    if (!detail) return null;
    const matrix = detail[this.matrix];
    const column = this.heard.column(detail, time, detail.step_seconds, matrix);
    const values = Array.from({ length: matrix.rows }, (_, each) =>
      unit(matrix, matrix.values[each * matrix.columns + column]),
    );
    const shown = row ?? values.indexOf(Math.max(...values));
    return { detail, row: shown, value: values[shown] };
  }
}

export class SpectrogramView extends MatrixView {
  constructor(heard) {
    super(heard, "spectrogram");
  }

  ticks() {
    const highest = this.heard.details[0]?.highest_frequency || 0;
    return [0, 0.25, 0.5, 0.75, 1].map((share) => ({
      row: share * this.rows,
      text: share ? `${((share * highest) / 1000).toFixed(0)} kHz` : "0",
    }));
  }

  tell(time, row) {
    const found = this.valueAt(time, row);
    if (!found) return "nothing was looked at here";
    const hertz = ((found.row + 0.5) / this.rows) * found.detail.highest_frequency;
    const where = `${Math.round(hertz).toLocaleString("en")} Hz`;
    return `${row === null ? "strongest at " : ""}${where}, ${found.value.toFixed(0)} dB`;
  }
}

export class FeaturesView extends MatrixView {
  constructor(heard) {
    super(heard, "features");
  }

  ticks() {
    const step = this.rows > 40 ? 20 : 10;
    const count = Math.floor((this.rows - 1) / step) + 1;
    return Array.from({ length: count }, (_, i) => ({ row: i * step + 0.5, text: `${i * step}` }));
  }

  tell(time, row) {
    const found = this.valueAt(time, row);
    if (!found) return "nothing was looked at here";
    const bin = `bin ${found.row}`;
    return `${row === null ? "strongest in " : ""}${bin}: ${found.value.toFixed(2)}`;
  }
}

export class LettersView {
  constructor(heard) {
    this.heard = heard;
    this.rows = heard.rows.length;
  }

  /** The canvas is as high as its letters want. */
  get height() {
    return LETTERS + this.rows * ROW + AXIS;
  }

  recolour(colour) {
    const shades = ramp(colour, 0.6);
    // As high as they are drawn, so that a browser that smooths doesn't mix letters.
    const rows = this.heard.rows.flatMap((row) => Array(ROW).fill(row));
    this.images = this.heard.details.map(({ probabilities }) =>
      matrixImage(probabilities.values, probabilities.columns, rows, shades),
    );
  }

  y(label) {
    return LETTERS + (this.heard.rows.indexOf(label) + 0.5) * ROW;
  }

  draw(frame) {
    this.heard.details.forEach((detail, i) =>
      frame.image(this.images[i], detail.start, detail.seconds, LETTERS, frame.bottom),
    );
    this.heard.rows.forEach((label) => {
      const named = label === this.heard.blank ? frame.colour.muted : frame.colour.text;
      frame.name(this.heard.name(label), this.y(label), named);
    });
    frame.inside(() => this.heard.details.forEach((detail) => this.drawPath(frame, detail)));
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
    // Many outputs side by side: the way is only hinted at, or it would hide the probabilities.
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
    const letters = this.heard.letters(detail).map(({ label, start, end }) => ({
      label,
      text: this.heard.labels[label],
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

  /** The text above its way, of each word all letters or, where they have no room, none. */
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

  tell(time, row) {
    const label = this.heard.labelAt(time);
    if (label === null) return "nothing was looked at here";
    const told = (each) =>
      `${isolated(this.heard.name(each))} ${(100 * this.heard.probability(time, each)).toFixed(0)} %`;
    const pointed = row === null ? null : this.heard.rows[row];
    const way = `letter ${told(label)}`;
    return pointed === null || pointed === label ? way : `${way}, and ${told(pointed)}`;
  }
}
