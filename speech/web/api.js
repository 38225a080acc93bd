// What the page asks the server. Addresses are relative, so that the page works behind a prefix.

/** A sentence for people: what went wrong, and the remedy. */
export class ApiError extends Error {
  /** again: whether the same request may be answered another time. */
  constructor(message, again = true) {
    super(message);
    this.again = again;
  }
}

const LOST =
  `The server at ${location.host} doesn't answer. ` +
  "See whether serve.py still runs there, and try again.";

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(LOST);
  }
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.ok) throw new ApiError(LOST); // it went away in the middle of its answer
  }
  if (!response.ok) {
    const said = content && typeof content.error === "string" ? content.error : "";
    throw new ApiError(
      said || `The server answers with status ${response.status}: see what its log says.`,
      response.status >= 500,
    );
  }
  return content;
}

export const models = () => request("api/models");

export const sets = () => request("api/sets");

/** A page of a test set; chosen: {model, scorer}. */
export function setPage(name, chosen, offset, limit, signal) {
  const query = new URLSearchParams({ ...chosen, offset, limit });
  return request(`api/sets/${encodeURIComponent(name)}?${query}`, { signal });
}

/** A recording's transcript, with what the pictures are drawn of. */
export function transcribe(file, chosen, candidates, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...chosen, candidates, details: true })) {
    form.append(name, value);
  }
  form.append("audio", file, file.name || "recording");
  return request("api/transcribe", { method: "POST", body: form, signal });
}

/** The recording at an address of the server's, as a file. */
export async function fetchRecording(address, name) {
  const response = await fetch(address).catch(() => null);
  if (!response) throw new ApiError(LOST);
  if (!response.ok) throw new ApiError(`The server has no recording of ${name}.`, false);
  return new File([await response.blob()], name);
}

/** Where an address of the contract, which begins with a slash, is seen from this page. */
export const relative = (address) => address.replace(/^\//, "");

/** A socket that turns sound into text while it goes on; see recorder.js. */
export function openStream(chosen) {
  const address = new URL(`api/stream?${new URLSearchParams(chosen)}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  return socket;
}
