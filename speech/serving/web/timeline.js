// One time for the player, the words and all pictures: where it plays, what is shown, what is
// pointed at. Tells "time" when the moment changes and "view" when another stretch is shown.

const SHORTEST_VIEW = 0.25; // seconds
const STEP = 0.05; // seconds that an arrow key goes on by, where the network has no steps

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

  /** A recording of its own. step: seconds between the network's outputs, if they are known. */
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

  /** While it plays the moment is told with every picture of the screen: "timeupdate" is too rare. */
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

  /** Turns the page if the moment has left what is shown. */
  follow() {
    const width = this.end - this.start;
    if (this.time < this.start) this.show(this.time - 0.1 * width, width);
    else if (this.time > this.end) this.show(this.time - 0.1 * width, width);
  }

  /** Shows a stretch, which is moved into the recording. */
  show(start, width) {
    const longest = Math.max(this.seconds, SHORTEST_VIEW);
    width = Math.min(Math.max(width, SHORTEST_VIEW), longest);
    this.start = Math.min(Math.max(start, 0), longest - width);
    this.end = this.start + width;
    this.dispatchEvent(new Event("view"));
  }

  /** factor: above 1 shows less; around: the moment that stays where it is. */
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
