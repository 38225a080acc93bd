// The recognition of a recording: looks up words, letters and probabilities at a time.

import { decode } from "./drawing.js";

const SHOWN = 0.05 * 255; // a letter that is never more probable is left out of the picture

const named = (character) => (character === " " ? "space" : character);

/** A matrix of the response with its values decoded: uint8, row after row. */
function unpacked(matrix) {
  return { ...matrix, values: decode(matrix.data) };
}

export class Recognition {
  /**
   * @param answer the response of POST /api/transcribe, with details
   * @param labels the model's classes: characters, and the blank last
   */
  constructor(answer, labels) {
    this.answer = answer;
    this.labels = labels;
    this.blank = labels.length - 1;
    this.words = answer.segments.flatMap((segment) => segment.words);
    this.details = (answer.details || []).filter(Boolean).map((detail) => ({
      ...detail,
      spectrogram: unpacked(detail.spectrogram),
      features: unpacked(detail.features),
      probabilities: unpacked(detail.probabilities),
      seconds: detail.probabilities.columns * detail.output_seconds,
    }));
    this.rows = this.shownLabels();
  }

  /** Labels that are on the path or more probable than SHOWN anywhere, the blank last. */
  shownLabels() {
    const seen = new Set([this.blank]);
    for (const { probabilities, path } of this.details) {
      path.forEach((label) => seen.add(label));
      for (let row = 0; row < probabilities.rows; row += 1) {
        const from = row * probabilities.columns;
        const values = probabilities.values.subarray(from, from + probabilities.columns);
        if (values.some((value) => value >= SHOWN)) seen.add(row);
      }
    }
    return [...seen].sort((a, b) => a - b);
  }

  name(label) {
    if (label === this.blank) return "blank";
    const character = this.labels[label];
    return /^\p{C}$/u.test(character) ? `(${character.codePointAt(0)})` : named(character);
  }

  detailAt(time) {
    return this.details.find(({ start, seconds }) => time >= start && time < start + seconds);
  }

  wordAt(time) {
    return this.words.find(
      ({ start_time, duration }) => time >= start_time && time < start_time + duration,
    );
  }

  /** The column of a matrix at a time; seconds: length of a column. */
  column(detail, time, seconds, matrix) {
    return Math.min(Math.floor((time - detail.start) / seconds), matrix.columns - 1);
  }

  /** The probability of a label at a time, from 0 to 1; null where there is none. */
  probability(time, label) {
    const detail = this.detailAt(time);
    if (!detail) return null;
    const { probabilities, output_seconds } = detail;
    const column = this.column(detail, time, output_seconds, probabilities);
    return probabilities.values[label * probabilities.columns + column] / 255;
  }

  /** The label of the text's alignment at a time; null where there is none. */
  labelAt(time) {
    const detail = this.detailAt(time);
    if (!detail) return null;
    return detail.path[this.column(detail, time, detail.output_seconds, detail.probabilities)];
  }

  /** The letters of a segment's alignment: [{label, start, end}] in seconds; without blanks. */
  letters(detail) {
    const found = [];
    detail.path.forEach((label, i) => {
      const start = detail.start + i * detail.output_seconds;
      const last = found.at(-1);
      const goesOn = i > 0 && detail.path[i - 1] === label;
      if (label === this.blank) return;
      if (goesOn) last.end = start + detail.output_seconds;
      else found.push({ label, start, end: start + detail.output_seconds });
    });
    return found;
  }
}
