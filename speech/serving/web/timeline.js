// The time axis that player, words and pictures share: the current time and the part that is shown.
// Dispatches "time" when the time changes, and "view" when another part is shown.

const SHORTEST_VIEW = 0.25; // seconds
const STEP = 0.05; // seconds that an arrow key moves by, where the network has no steps

export class Timeline extends EventTarget {
  constructor(player) {
    super();
    this.player = player;
    this.begin(0, null);
    const moved = () => this.moved();
    ["timeupdate", "seeked", "pause", "ended"].forEach((name) =>
      player.addEventListener(name, moved),
    );
    player.addEventListener("play", () => {
      this.moved();
      this.run();
    });
  }

  /** Starts with a new recording; step: seconds between the network's outputs, if known. */
  begin(seconds, step) {
    this.seconds = seconds;
    this.step = step || STEP;
    this.time = 0;
    this.start = 0;
    this.end = Math.max(seconds, SHORTEST_VIEW);
    this.stopAt = null;
  }

  get playing() {
    return !this.player.paused && !this.player.ended;
  }

  /** Updates the time with every frame of the screen while it plays: "timeupdate" is too rare. */
  run() {
    if (!this.playing) return;
    this.moved();
    requestAnimationFrame(() => this.run());
  }

  moved() {
    this.time = Math.min(this.player.currentTime, this.seconds);
    if (this.playing) this.follow();
    this.dispatchEvent(new Event("time"));
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.seconds);
    this.player.currentTime = this.time;
    this.follow();
    this.dispatchEvent(new Event("time"));
  }

  play() {
    // Refused if there is no recording, or the browser wants a click before; the player shows it.
    this.player.play().catch(() => {});
  }

  toggle() {
    if (this.playing) this.player.pause();
    else this.play();
  }

  /** Shows another part if the time has left the one that is shown. */
  follow() {
    const width = this.end - this.start;
    if (this.time < this.start) this.show(this.time - 0.1 * width, width);
    else if (this.time > this.end) this.show(this.time - 0.1 * width, width);
  }

  /** Shows a part, which is moved to be inside the recording. */
  show(start, width) {
    const longest = Math.max(this.seconds, SHORTEST_VIEW);
    width = Math.min(Math.max(width, SHORTEST_VIEW), longest);
    this.start = Math.min(Math.max(start, 0), longest - width);
    this.end = this.start + width;
    this.dispatchEvent(new Event("view"));
  }

  /** factor: above 1 shows less; around: the time that keeps its position. */
  zoom(factor, around = this.time) {
    const width = this.end - this.start;
    const fixed = Math.min(Math.max(around, this.start), this.end);
    const narrower = Math.min(width / factor, Math.max(this.seconds, SHORTEST_VIEW));
    const wanted = Math.max(narrower, SHORTEST_VIEW);
    this.show(fixed - ((fixed - this.start) / width) * wanted, wanted);
  }

  pan(seconds) {
    this.show(this.start + seconds, this.end - this.start);
  }
}
