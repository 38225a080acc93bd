// Words with their times, and what stands between them.

/**
 * The words of segments in their order: [{text, before, start, duration, segment}].
 *
 * `before` is what the segment's text has before the word: a space, or nothing where words are
 * written without.
 */
export function timedWords(segments) {
  const timed = [];
  segments.forEach((segment, number) => {
    let behind = 0;
    segment.words.forEach(({ word, start_time: start, duration }, i) => {
      const found = segment.text.indexOf(word, behind);
      const usual = timed.at(-1)?.before ?? " "; // between two segments, or in a text of others
      const before = i && found >= 0 ? segment.text.slice(behind, found) : usual;
      behind = Math.max(found, behind) + word.length;
      timed.push({ text: word, before, start, duration, segment: number });
    });
  });
  return timed;
}
