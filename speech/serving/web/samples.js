// A recording's samples, as the browser decodes them.

const RATE = 16000; // Hz
const LONGEST = 300; // seconds; a longer one would take much memory, for a picture

/** Float32Array [samples] of its first channel; null if the browser can't, or it is too long. */
export async function decodeSamples(file, seconds) {
  if (seconds > LONGEST) return null;
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    const decoded = await context.decodeAudioData(await file.arrayBuffer());
    return decoded.getChannelData(0);
  } catch {
    return null; // a format that the server knows and the browser doesn't
  }
}
