// Words with their times, and the text between them.

/**
 * The words of segments in their order: [{text, before, start, duration, segment}].
 *
 * `before` is the text before the word in its segment: a space, or nothing in scripts without
 * spaces.
 */
export function timedWords(segments) {
  const timed = [];
  segments.forEach((segment, number) => {
    let end = 0; // of the last word, in the segment's text
    segment.words.forEach(({ word, start_time: start, duration }, i) => {
      const found = segment.text.indexOf(word, end);
      const usual = timed.at(-1)?.before ?? " "; // between two segments
      const before = i && found >= 0 ? segment.text.slice(end, found) : usual;
      end = Math.max(found, end) + word.length;
      timed.push({ text: word, before, start, duration, segment: number });
    });
  });
  return timed;
}
