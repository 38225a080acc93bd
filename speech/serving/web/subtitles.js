// A transcript as files: text, SubRip, WebVTT, JSON, by the rules of
// speech/transcription/subtitles.py.

import { timedWords } from "./words.js";

const LINE = 42; // characters
const LINES = 2;
const LONGEST = 7; // seconds
const SHORTEST = 1; // seconds, if the next one doesn't start before
const PAUSE = 0.6; // seconds between words at which a subtitle ends

/** Joins words; words: consecutive ones of timedWords. */
function joined(words) {
  return words.map(({ text, before }, i) => (i ? before : "") + text).join("");
}

const gap = (words, i) => words[i].start - words[i - 1].start - words[i - 1].duration;
const milliseconds = (seconds) => Math.max(Math.round(seconds * 1000), 0);

/** The words in one line, or in two of similar length; null if they don't fit. */
function lines(words) {
  const text = joined(words);
  if (text.length <= LINE) return [text];
  if (text.length > LINES * (LINE + 1)) return null;
  let best = null;
  for (let i = 1; i < words.length; i += 1) {
    const pair = [joined(words.slice(0, i)), joined(words.slice(i))];
    const longest = Math.max(...pair.map((line) => line.length));
    if (longest <= LINE && (!best || longest < best.longest)) best = { pair, longest };
  }
  return best && best.pair;
}

/** Splits a word into pieces that fit into a line, each with its share of the time. */
function pieces(word) {
  const letters = [...word.text];
  const count = Math.ceil(letters.length / LINE);
  const share = word.duration / count;
  return Array.from({ length: count }, (_, i) => ({
    text: letters.slice(i * LINE, (i + 1) * LINE).join(""),
    before: i ? "" : word.before,
    start: word.start + i * share,
    duration: share,
  }));
}

/** The number of the piece after the subtitle that begins with piece `start`. */
function cueEnd(all, start) {
  for (let stop = start + 1; stop < all.length; stop += 1) {
    if (gap(all, stop) >= PAUSE) return stop;
    const tooLong = all[stop].start + all[stop].duration - all[start].start > LONGEST;
    if (tooLong || !lines(all.slice(start, stop + 1))) {
      let best = stop;
      for (let i = stop; i >= start + Math.ceil((stop - start) / 2) && i > start; i -= 1) {
        if (gap(all, i) > gap(all, best)) best = i;
      }
      return best;
    }
  }
  return all.length;
}

/** [{start, end, lines}], in milliseconds. */
function cues(segments) {
  const all = timedWords(segments).flatMap(pieces);
  const made = [];
  for (let first = 0; first < all.length; ) {
    const stop = cueEnd(all, first);
    const inside = all.slice(first, stop);
    const [from, to] = [inside[0], inside.at(-1)];
    const start = Math.max(milliseconds(from.start), made.at(-1)?.end ?? 0);
    const nextStart = stop < all.length ? all[stop].start : Infinity;
    const wanted = Math.min(Math.max(to.start + to.duration, from.start + SHORTEST), nextStart);
    const end = Math.min(Math.max(milliseconds(wanted), start + 1), start + LONGEST * 1000);
    made.push({ start, end, lines: lines(inside) });
    first = stop;
  }
  return made;
}

/** HH:MM:SS.mmm */
function moment(time, point) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const seconds = Math.floor(time / 1000);
  const rest = String(time % 1000).padStart(3, "0");
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}${point}${rest}`;
}

export function srt({ segments }) {
  return cues(segments)
    .map(({ start, end, lines: shown }, i) => {
      const text = shown.map((line) => line.replaceAll("-->", "→")).join("\n");
      return `${i + 1}\n${moment(start, ",")} --> ${moment(end, ",")}\n${text}\n\n`;
    })
    .join("");
}

const escaped = (line) =>
  line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export function vtt({ segments }) {
  const shown = cues(segments).map(
    ({ start, end, lines: each }) =>
      `${moment(start, ".")} --> ${moment(end, ".")}\n${each.map(escaped).join("\n")}\n\n`,
  );
  return `WEBVTT\n\n${shown.join("")}`;
}

/** Formats the words in lines that end at pauses. */
export function txt({ segments }) {
  const words = timedWords(segments);
  let text = "";
  for (let start = 0, i = 1; i <= words.length; i += 1) {
    if (i < words.length && gap(words, i) < PAUSE) continue;
    text += `${joined(words.slice(start, i))}\n`;
    start = i;
  }
  return text;
}

/** The server's response without what only the pictures need. */
export function json({ waveform, details, ...answer }) {
  return `${JSON.stringify(answer, null, 2)}\n`;
}

export const TYPES = {
  txt: "text/plain",
  srt: "application/x-subrip",
  vtt: "text/vtt",
  json: "application/json",
};
