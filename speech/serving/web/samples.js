// Decodes a recording's samples in the browser.

const RATE = 16000; // Hz
const LONGEST = 300; // seconds; a longer recording would take much memory

/** Returns the first channel, Float32Array [samples]; null if it can't be decoded or is too long. */
export async function decodeSamples(file, seconds) {
  if (seconds > LONGEST) return null;
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    const decoded = await context.decodeAudioData(await file.arrayBuffer());
    return decoded.getChannelData(0);
  } catch {
    return null; // a format that the server supports and the browser doesn't
  }
}
