// The pictures of a recording, one below the other, with a common time axis, playhead and pointer.

import { byId, isolated } from "./dom.js";
import { colours, Frame } from "./drawing.js";
import { Recognition } from "./recognition.js";
import { decodeSamples } from "./samples.js";
import { FeaturesView, LettersView, SpectrogramView, WaveView } from "./views.js";

const VIEWS = {
  wave: WaveView,
  spectrogram: SpectrogramView,
  features: FeaturesView,
  letters: LettersView,
};
const ZOOM = 1.6;

export class Pictures {
  constructor(timeline) {
    this.timeline = timeline;
    this.shown = []; // pictures: {name, canvas, view, row}
    this.pointer = null; // {time, picture, row}
    this.drawn = 0; // the request for the next animation frame, 0 if there is none
    this.canvases = Object.keys(VIEWS).map((name) => byId(name));
    this.canvases.forEach((canvas) => this.listen(canvas));
    timeline.addEventListener("time", () => this.redraw());
    timeline.addEventListener("view", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(byId("pictures"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    byId("play").addEventListener("click", () => timeline.toggle());
    byId("zoom-in").addEventListener("click", () => timeline.zoom(ZOOM));
    byId("zoom-out").addEventListener("click", () => timeline.zoom(1 / ZOOM));
    byId("zoom-all").addEventListener("click", () => timeline.show(0, timeline.seconds));
  }

  /** Shows the pictures of a response; labels: of the model; file: the recording. */
  show(answer, labels, file) {
    const recognition = new Recognition(answer, labels);
    this.recognition = recognition;
    const detailed = recognition.details.length > 0;
    document.querySelectorAll("#pictures .detail").forEach((figure) => {
      figure.hidden = !detailed;
    });
    byId("no-details").hidden = answer.details !== null;
    const names = detailed ? Object.keys(VIEWS) : ["wave"];
    this.pointer = null;
    this.shown = names.map((name) => {
      const picture = { name, canvas: byId(name), view: new VIEWS[name](recognition), row: null };
      if (picture.view.height) picture.canvas.style.height = `${picture.view.height}px`;
      return picture;
    });
    byId("pictures").hidden = false;
    this.timeline.begin(answer.seconds, recognition.details[0]?.output_seconds);
    this.recolour();
    this.refine(this.shown[0].view, file);
  }

  async refine(wave, file) {
    wave.samples = await decodeSamples(file, this.timeline.seconds);
    this.redraw();
  }

  recolour() {
    this.colour = colours();
    this.shown.forEach(({ view }) => view.recolour(this.colour));
    this.redraw();
  }

  redraw() {
    if (this.drawn || !this.shown.length) return;
    this.drawn = requestAnimationFrame(() => {
      this.drawn = 0;
      this.draw();
    });
  }

  draw() {
    const { timeline, colour } = this;
    for (const picture of this.shown) {
      const frame = new Frame(picture.canvas, timeline, colour);
      if (frame.width <= 0) return; // it isn't visible
      picture.frame = frame;
      picture.view.draw(frame, timeline.time);
      if (this.pointer) frame.line(frame.x(this.pointer.time), colour.muted, [4, 3]);
      frame.line(frame.x(timeline.time), colour.text);
      this.drawRow(picture, frame);
      this.describe(picture);
    }
    byId("readout").textContent = this.readout();
    byId("play").textContent = timeline.playing ? "Pause" : "Play";
    const whole = timeline.end - timeline.start >= timeline.seconds;
    ["zoom-out", "zoom-all"].forEach((id) => byId(id).setAttribute("aria-disabled", whole));
  }

  /** Marks the row under the pointer. */
  drawRow(picture, frame) {
    const pointed = this.pointer?.picture === picture ? this.pointer : null;
    const row = pointed ? pointed.row : picture.row;
    if (row === null || !picture.view.rowMiddle) return;
    const x = frame.x(pointed ? pointed.time : this.timeline.time);
    const y = picture.view.rowMiddle(row, frame);
    for (const [width, stroke] of [
      [4, this.colour.page],
      [1.5, this.colour.text],
    ]) {
      frame.pen.lineWidth = width;
      frame.pen.strokeStyle = stroke;
      frame.pen.beginPath();
      frame.pen.arc(x, y, 6, 0, 2 * Math.PI);
      frame.pen.stroke();
    }
  }

  /** Describes the current time to screen readers; not while it plays, they would never stop. */
  describe(picture) {
    const { canvas } = picture;
    const { seconds, time, playing } = this.timeline;
    canvas.setAttribute("aria-valuemin", 0);
    canvas.setAttribute("aria-valuemax", seconds.toFixed(2));
    if (playing) return;
    canvas.setAttribute("aria-valuenow", time.toFixed(2));
    canvas.setAttribute("aria-valuetext", this.textAt(time, picture));
  }

  textAt(time, picture) {
    const word = this.recognition.wordAt(time);
    const parts = [`${time.toFixed(2)} s`, word && `“${isolated(word.word)}”`];
    return [...parts, picture.view.describe(time, picture.row)].filter(Boolean).join(", ");
  }

  /** The values at the pointer, or else at the playhead. */
  readout() {
    const letters = this.shown.at(-1);
    if (this.pointer) {
      const { time, picture, row } = this.pointer;
      return this.textAt(time, { ...picture, row }) + this.letterToo(time, picture);
    }
    const focused = this.shown.find(({ canvas }) => canvas === document.activeElement);
    const picture = focused || letters;
    return this.textAt(this.timeline.time, picture) + this.letterToo(this.timeline.time, picture);
  }

  /** The letter, if the pointer is on another picture. */
  letterToo(time, picture) {
    const letters = this.shown.find(({ name }) => name === "letters");
    if (!letters || letters === picture || !this.recognition.detailAt(time)) return "";
    return `, ${letters.view.describe(time, null)}`;
  }

  listen(canvas) {
    const picture = () => this.shown.find((each) => each.canvas === canvas && each.frame);
    let dragged = null; // where a drag began: {x, start}
    const point = (event) => {
      const here = picture();
      if (!here) return;
      const time = here.frame.time(event.offsetX);
      const inside = time >= 0 && time <= this.timeline.seconds && event.offsetX >= 0;
      const row = here.view.rowAt(event.offsetY, here.frame);
      this.pointer = inside ? { time, picture: here, row } : null;
      this.redraw();
    };
    canvas.addEventListener("pointermove", (event) => {
      if (dragged && picture()) {
        const { frame } = picture();
        const moved = frame.time(dragged.x) - frame.time(event.offsetX);
        this.timeline.show(dragged.start + moved, this.timeline.end - this.timeline.start);
        dragged.moved ||= Math.abs(event.offsetX - dragged.x) > 4;
      }
      point(event);
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragged = { x: event.offsetX, start: this.timeline.start, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", (event) => {
      const here = picture();
      if (dragged && !dragged.moved && here) this.timeline.seek(here.frame.time(event.offsetX));
      dragged = null;
    });
    const left = () => {
      dragged = null;
      this.pointer = null;
      this.redraw();
    };
    canvas.addEventListener("pointerleave", left);
    canvas.addEventListener("pointercancel", left);
    canvas.addEventListener("wheel", (event) => this.wheel(event, picture()), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event, picture()));
    canvas.addEventListener("focus", () => this.redraw());
    canvas.addEventListener("blur", () => this.redraw());
  }

  /** Zooms with Ctrl, which is also how browsers report pinching; moves sideways. */
  wheel(event, picture) {
    if (!picture) return;
    if (event.ctrlKey) {
      event.preventDefault();
      const factor = Math.exp(-event.deltaY / 200);
      this.timeline.zoom(factor, picture.frame.time(event.offsetX));
      return;
    }
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (!sideways) return;
    event.preventDefault();
    this.timeline.pan(picture.frame.time(sideways) - picture.frame.time(0));
  }

  key(event, picture) {
    if (!picture || event.ctrlKey || event.altKey || event.metaKey) return;
    const { timeline } = this;
    const step = event.shiftKey ? 1 : timeline.step;
    const page = (timeline.end - timeline.start) / 2;
    const keys = {
      ArrowLeft: () => timeline.seek(timeline.time - step),
      ArrowRight: () => timeline.seek(timeline.time + step),
      ArrowUp: () => this.moveRow(picture, 1),
      ArrowDown: () => this.moveRow(picture, -1),
      PageUp: () => timeline.seek(timeline.time + page),
      PageDown: () => timeline.seek(timeline.time - page),
      Home: () => timeline.seek(0),
      End: () => timeline.seek(timeline.seconds),
      "+": () => timeline.zoom(ZOOM),
      "=": () => timeline.zoom(ZOOM),
      "-": () => timeline.zoom(1 / ZOOM),
      0: () => timeline.show(0, timeline.seconds),
      " ": () => timeline.toggle(),
    };
    const run = keys[event.key];
    if (!run) return;
    event.preventDefault();
    this.pointer = null;
    run();
    this.redraw();
  }

  /** Moves up or down through the rows of a picture; beyond the last one, no row is selected. */
  moveRow(picture, up) {
    const { view } = picture;
    if (!view.rows) {
      this.timeline.seek(this.timeline.time + up * this.timeline.step);
      return;
    }
    const upwards = view instanceof LettersView ? -up : up; // its first row is the highest
    const from = picture.row ?? (upwards > 0 ? -1 : view.rows);
    const row = from + upwards;
    picture.row = row >= 0 && row < view.rows ? row : null;
  }
}
