// A transcript as files: text, SubRip, WebVTT, JSON; the rules are those of speech/subtitles.py.

import { timedWords } from "./words.js";

const LINE = 42; // characters
const LINES = 2;
const LONGEST = 7; // seconds
const SHORTEST = 1; // seconds, if the next one doesn't start before
const PAUSE = 0.6; // seconds between words that a subtitle ends at

/** words: timedWords of a stretch. */
function joined(words) {
  return words.map(({ text, before }, i) => (i ? before : "") + text).join("");
}

const gap = (words, i) => words[i].start - words[i - 1].end;

/** The words in one line, or in two that are as equal as can be; null if they don't fit. */
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

/** A word in pieces that fit into a line, each with its share of the time. */
function pieces(word) {
  const letters = [...word.text];
  const count = Math.ceil(letters.length / LINE);
  const share = (word.end - word.start) / count;
  return Array.from({ length: count }, (_, i) => ({
    text: letters.slice(i * LINE, (i + 1) * LINE).join(""),
    before: i ? "" : word.before,
    start: word.start + i * share,
    end: word.start + (i + 1) * share,
  }));
}

/** The piece behind the subtitle that begins with piece `start`. */
function cueEnd(all, start) {
  for (let stop = start + 1; stop < all.length; stop += 1) {
    if (gap(all, stop) >= PAUSE) return stop;
    const tooLong = all[stop].end - all[start].start > LONGEST;
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

function cues(segments) {
  const all = timedWords(segments).flatMap(pieces);
  const made = [];
  for (let start = 0; start < all.length; ) {
    const stop = cueEnd(all, start);
    const inside = all.slice(start, stop);
    const [first, last] = [inside[0], inside.at(-1)];
    const from = Math.max(first.start, made.at(-1)?.end ?? 0);
    const behind = stop < all.length ? all[stop].start : Infinity;
    const wanted = Math.min(Math.max(last.end, first.start + SHORTEST), behind);
    const end = Math.min(Math.max(wanted, from + 0.001), from + LONGEST);
    made.push({ start: from, end, lines: lines(inside) });
    start = stop;
  }
  return made;
}

/** HH:MM:SS.mmm */
function moment(seconds, point) {
  const milliseconds = Math.round(seconds * 1000);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const rest = String(milliseconds % 1000).padStart(3, "0");
  const whole = Math.floor(milliseconds / 1000);
  return `${two(whole / 3600)}:${two((whole / 60) % 60)}:${two(whole % 60)}${point}${rest}`;
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

export const txt = ({ segments }) =>
  segments
    .filter(({ text }) => text)
    .map(({ text }) => `${text}\n`)
    .join("");

/** The server's answer without what only the pictures need. */
export function json({ waveform, details, ...answer }) {
  return `${JSON.stringify(answer, null, 2)}\n`;
}

export const TYPES = {
  txt: "text/plain",
  srt: "application/x-subrip",
  vtt: "text/vtt",
  json: "application/json",
};
