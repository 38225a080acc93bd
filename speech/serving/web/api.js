// Requests to the server. Addresses are relative, so that the page works behind a prefix.

import { Problem } from "./problems.js";

const lost = () => new Problem("lost", `${location.host} doesn't respond: is serve.py running there?`);

/** Waits for a response. Throws Problem if the connection fails, or AbortError. */
async function answered(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : lost();
  }
}

async function ask(path, options) {
  const response = await answered(fetch(path, options));
  if (response.ok) return response;
  const text = await answered(response.text());
  const seconds = Number(response.headers.get("retry-after")) || null; // it may also be a date
  const message = errorMessage(text) || `HTTP status ${response.status}`;
  throw new Problem(response.status, message, seconds);
}

/** The server's message; empty if the response isn't the server's own but, say, a proxy's. */
function errorMessage(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return "";
  }
}

async function askJson(path, options) {
  const response = await ask(path, options);
  return answered(response.json());
}

export const models = () => askJson("api/models");

export const sets = (signal) => askJson("api/sets", { signal });

/** A page of a test set; chosen: {model, scorer}. */
export function setPage(name, chosen, offset, limit, signal) {
  const query = new URLSearchParams({ ...chosen, offset, limit });
  return askJson(`api/sets/${encodeURIComponent(name)}?${query}`, { signal });
}

/** A recording's transcript, with the details that the pictures are drawn from. */
export function transcribe(file, chosen, candidates, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...chosen, candidates, details: true })) {
    form.append(name, value);
  }
  form.append("audio", file, file.name || "recording");
  return askJson("api/transcribe", { method: "POST", body: form, signal });
}

/** The recording at an address of the server, as a file. */
export async function fetchRecording(address, name, signal) {
  const response = await ask(address, { signal }).catch((error) => {
    throw error.kind === 404 ? new Problem("no recording", error.message) : error;
  });
  return new File([await answered(response.blob())], name);
}

/** Makes an address of the API, which begins with a slash, relative to this page. */
export const relative = (address) => address.replace(/^\//, "");

/** Opens a socket that transcribes samples while they are recorded; see recorder.js. */
export function openStream(chosen) {
  const address = new URL(`api/stream?${new URLSearchParams(chosen)}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  return socket;
}

// --- The corpus that visitors record. A speaker is known by a token that this browser keeps.

const TOKEN = "speaker-token";
export const speakerToken = () => localStorage.getItem(TOKEN);

function asSpeaker(path, options = {}) {
  const token = speakerToken();
  const headers = { ...options.headers, ...(token && { "Speaker-Token": token }) };
  return ask(`api/recordings${path}`, { ...options, headers });
}

/** The consent, and the prompts with the speaker's takes. */
export const recordings = async () => answered((await asSpeaker("")).json());

export async function enter(name, consent) {
  const body = JSON.stringify({ name, consent });
  const headers = { "Content-Type": "application/json" };
  const response = await asSpeaker("/speaker", { method: "POST", headers, body });
  localStorage.setItem(TOKEN, (await answered(response.json())).token);
}

export async function removeSpeaker() {
  await asSpeaker("/speaker", { method: "DELETE" }).catch((error) => {
    if (error.kind !== 410) throw error; // 410: it is deleted already
  });
  localStorage.removeItem(TOKEN);
}

/** Stores a take; fields: text, and prompt_id, or heard, model and scorer. May be repeated. */
export async function storeTake(takeId, file, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("audio", file, "take");
  return answered((await asSpeaker(`/takes/${takeId}`, { method: "PUT", body: form })).json());
}

export async function takeSound(takeId) {
  return answered((await asSpeaker(`/takes/${takeId}/audio`)).blob());
}
