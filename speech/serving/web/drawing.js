// Draws on a canvas: a frame with a time axis, and matrices as pictures.

export const GUTTER = 42; // pixels at the left, for the names of rows
export const AXIS = 18; // pixels below, for the time
const SMALLEST_TICK = 64; // least pixels between two times on the axis
const TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
export const FONT = "12px system-ui, sans-serif";

const COLOURS = "page panel text muted rule accent said path quiet loud".split(" ");

/** The page's current colours by name, light or dark. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
}

function channels(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** 256 colours from quiet to loud, [256][3], each darker (in dark mode lighter) than the last. */
export function ramp(colour, gamma = 1) {
  const stops = [colour.quiet, colour.accent, colour.loud].map(channels);
  return Array.from({ length: 256 }, (_, value) => {
    const place = 2 * (value / 255) ** gamma;
    const low = Math.min(Math.floor(place), 1);
    return stops[low].map((from, i) => from + (stops[low + 1][i] - from) * (place - low));
  });
}

/** base64 -> Uint8Array. */
export const decode = (data) => Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));

/** The smallest of `low` and the largest of `high` between two positions, of at least one each. */
export function extremes(low, high, from, to) {
  const first = Math.min(Math.max(Math.floor(from), 0), low.length - 1);
  const last = Math.min(Math.max(Math.ceil(to), first + 1), low.length);
  let [smallest, largest] = [low[first], high[first]];
  for (let i = first + 1; i < last; i += 1) {
    smallest = Math.min(smallest, low[i]);
    largest = Math.max(largest, high[i]);
  }
  return [smallest || 0, largest || 0];
}

/**
 * Draws a matrix to a canvas.
 *
 * @param values uint8, row after row
 * @param rows numbers of the rows to draw, from the top
 * @param shades the colour of each value, [256][3]
 */
export function matrixImage(values, columns, rows, shades) {
  const image = new ImageData(columns, rows.length);
  rows.forEach((row, y) => {
    for (let x = 0; x < columns; x += 1) {
      const [red, green, blue] = shades[values[row * columns + x]];
      image.data.set([red, green, blue, 255], 4 * (y * columns + x));
    }
  });
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows.length;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A canvas that is prepared for drawing in CSS pixels, and the positions of times on it. */
export class Frame {
  constructor(canvas, timeline, colour) {
    const ratio = window.devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    const [width, height] = [this.width, this.height].map((size) => Math.round(size * ratio));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    this.start = timeline.start;
    this.span = timeline.end - timeline.start;
    this.colour = colour;
    this.bottom = this.height - AXIS;
    this.pen = canvas.getContext("2d");
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.pen.clearRect(0, 0, this.width, this.height);
    this.pen.font = FONT;
    this.pen.textBaseline = "middle";
  }

  x(time) {
    return GUTTER + ((time - this.start) / this.span) * (this.width - GUTTER);
  }

  time(x) {
    return this.start + ((x - GUTTER) / (this.width - GUTTER)) * this.span;
  }

  /** Draws, clipped to the right of the gutter. */
  inside(draw) {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(GUTTER, 0, this.width - GUTTER, this.height);
    this.pen.clip();
    draw(this.pen);
    this.pen.restore();
  }

  /** Draws a matrix's picture over its time, from the height `top` to `bottom`. */
  image(picture, start, seconds, top, bottom) {
    const left = this.x(start);
    const width = this.x(start + seconds) - left;
    this.inside((pen) => {
      pen.imageSmoothingEnabled = width < 2 * picture.width;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(picture, left, top, width, bottom - top);
    });
  }

  /** Writes the name of a row into the gutter. */
  name(text, y, colour = this.colour.muted) {
    this.pen.fillStyle = colour;
    this.pen.textAlign = "right";
    this.pen.fillText(text, GUTTER - 6, y, GUTTER - 6);
  }

  line(x, colour, dashes = []) {
    if (x < GUTTER - 1 || x > this.width + 1) return;
    for (const [width, stroke, pattern] of [
      [4, this.colour.page, []],
      [1.5, colour, dashes],
    ]) {
      this.pen.globalAlpha = stroke === this.colour.page ? 0.6 : 1;
      this.pen.strokeStyle = stroke;
      this.pen.lineWidth = width;
      this.pen.setLineDash(pattern);
      this.pen.beginPath();
      this.pen.moveTo(x, 0);
      this.pen.lineTo(x, this.bottom);
      this.pen.stroke();
    }
    this.pen.setLineDash([]);
    this.pen.globalAlpha = 1;
  }

  axis() {
    const { pen, colour } = this;
    const pixels = (this.width - GUTTER) / this.span; // of a second
    const step = TICKS.find((tick) => tick * pixels >= SMALLEST_TICK) || TICKS.at(-1);
    const decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    pen.strokeStyle = colour.rule;
    pen.lineWidth = 1;
    pen.fillStyle = colour.muted;
    pen.beginPath();
    pen.moveTo(GUTTER, this.bottom + 0.5);
    pen.lineTo(this.width, this.bottom + 0.5);
    for (let i = Math.ceil(this.start / step - 1e-9); i * step <= this.start + this.span; i += 1) {
      const x = this.x(i * step);
      pen.moveTo(x, this.bottom);
      pen.lineTo(x, this.bottom + 4);
      const text = i * step < 60 ? `${(i * step).toFixed(decimals)} s` : moment(i * step, decimals);
      pen.textAlign = x > this.width - 24 ? "right" : x < GUTTER + 16 ? "left" : "center";
      pen.fillText(text, x, this.bottom + 11);
    }
    pen.stroke();
  }
}

function moment(seconds, decimals) {
  const minutes = Math.floor(seconds / 60 + 1e-9);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0")}`;
}
