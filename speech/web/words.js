// Words with their times, and what stands between them.

/**
 * The words of segments in their order: [{text, before, start, end, segment}].
 *
 * `before` is what the segment's text has before the word: a space, or nothing where words are
 * written without.
 */
export function timedWords(segments) {
  return segments.flatMap((segment, number) => {
    let behind = 0;
    return segment.words.map(({ word, start_time, duration }, i) => {
      const found = segment.text.indexOf(word, behind);
      const at = Math.max(found, behind);
      const before = i && found >= 0 ? segment.text.slice(behind, at) : " ";
      behind = at + word.length;
      return { text: word, before, start: start_time, end: start_time + duration, segment: number };
    });
  });
}
