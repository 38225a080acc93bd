// A wav file of 16-bit samples, one channel.

export const HEAD_BYTES = 44;
export const SAMPLE_BYTES = 2;

/** blocks: Int16Arrays, in their order; rate: Hz. */
export function wavFile(blocks, rate, name) {
  const size = blocks.reduce((sum, block) => sum + SAMPLE_BYTES * block.length, 0);
  const head = new DataView(new ArrayBuffer(HEAD_BYTES));
  const text = (at, letters) =>
    [...letters].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, HEAD_BYTES - 8 + size, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true); // bytes of what follows
  head.setUint16(20, 1, true); // PCM
  head.setUint16(22, 1, true); // channels
  head.setUint32(24, rate, true);
  head.setUint32(28, SAMPLE_BYTES * rate, true); // bytes a second
  head.setUint16(32, SAMPLE_BYTES, true); // bytes a sample
  head.setUint16(34, 8 * SAMPLE_BYTES, true); // bits a sample
  text(36, "data");
  head.setUint32(40, size, true);
  return new File([head, ...blocks], name, { type: "audio/wav" });
}
