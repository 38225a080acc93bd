// A recording to try the page with.

import * as api from "./api.js";

/**
 * Returns the first recording of a test set that fits the chosen model: real speech in its
 * language. If there is none, the page's own recording, by eSpeak NG (examples/page_sample.py).
 */
export async function findSample(chosen, signal) {
  const { sets } = await api.sets(signal);
  for (const { name } of sets.filter(({ audio }) => audio)) {
    try {
      const { rows } = await api.setPage(name, chosen, 0, 1, signal);
      return await api.fetchRecording(api.relative(rows[0].audio), rows[0].id, signal);
    } catch (error) {
      if (error.name === "AbortError" || error.kind === "lost") throw error;
    }
  }
  return api.fetchRecording("static/sample.flac", "sample.flac", signal);
}
