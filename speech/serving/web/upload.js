// Takes files from the disk: chosen, or dropped anywhere on the page.

import { byId } from "./dom.js";

/** Calls `take` with each file that is chosen or dropped. */
export function acceptFiles(take) {
  const input = byId("file");
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file) take(file);
  });

  const curtain = byId("curtain");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let inside = 0; // elements under the pointer that were entered and not left
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    inside += 1;
    curtain.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    inside = Math.max(inside - 1, 0);
    curtain.hidden = inside === 0;
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = 0;
    curtain.hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}
