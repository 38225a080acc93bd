// Takes on their way to the server. The browser's database keeps each until the server has stored
// it, so that a lost connection or a closed page loses none.

import { speakerToken, storeTake } from "./api.js";

const AGAIN = 5000; // milliseconds until takes are sent again
const WAITS = [401, 408, 409, 410, 429, "lost"]; // and 5xx: the same take may be accepted later
const ASKS = [401, 409, 410]; // only after the speaker has done something

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function openDatabase() {
  const request = indexedDB.open("takes", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("takes", { keyPath: "takeId" });
  return asked(request);
}

/** A new id of a take. */
export function newTakeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox extends EventTarget {
  /**
   * Events: "stored" with detail {take, fields}, "refused" with {problem, fields}, and "waiting"
   * with {problem, asks}; asks: whether the speaker has to do something.
   */
  constructor() {
    super();
    this.takes = new Map(); // takeId -> {takeId, file, fields}
    this.sending = null;
    this.inMemory = false;
    this.database = openDatabase().catch(() => {
      this.inMemory = true; // a private window may have none
      return null;
    });
    this.loaded = this.load();
    addEventListener("online", () => this.send());
  }

  /** Whether takes would be lost with the page. */
  get atRisk() {
    return this.inMemory && this.takes.size > 0;
  }

  async load() {
    const store = await this.store("readonly");
    const kept = store ? await asked(store.getAll()) : [];
    kept.forEach((take) => this.takes.set(take.takeId, take));
  }

  async store(mode) {
    const database = await this.database;
    return database?.transaction("takes", mode).objectStore("takes");
  }

  /** Keeps a take, and sends it as soon as possible. */
  async add(take) {
    await this.loaded;
    for (const { takeId, fields } of this.takes.values()) {
      const replaced = fields.prompt_id && fields.prompt_id === take.fields.prompt_id;
      if (replaced) await this.remove(takeId);
    }
    await this.keep(take);
    this.send();
  }

  async keep(take) {
    const mine = { ...take, token: speakerToken() };
    this.takes.set(take.takeId, mine);
    const store = await this.store("readwrite");
    if (store) {
      await asked(store.put(mine)).catch(() => {
        this.inMemory = true; // no room
      });
    }
  }

  /** Hands the takes of a former token of this speaker's to the present one. */
  async hand(before) {
    await this.loaded;
    const former = [...this.takes.values()].filter(({ token }) => token === before);
    await Promise.all(former.map((take) => this.keep(take)));
  }

  async remove(takeId) {
    this.takes.delete(takeId);
    const store = await this.store("readwrite");
    if (store) await asked(store.delete(takeId));
  }

  async clear() {
    await this.loaded;
    for (const takeId of this.takes.keys()) await this.remove(takeId);
  }

  /** The take of a prompt that the server hasn't stored yet. */
  of(promptId) {
    return [...this.takes.values()].find(({ fields }) => fields.prompt_id === promptId);
  }

  /** Sends what is waiting, and again later what the server doesn't accept now. */
  async send() {
    this.sending ??= this.sendAll().finally(() => {
      this.sending = null;
    });
    return this.sending;
  }

  async sendAll() {
    await this.loaded;
    clearTimeout(this.timer);
    while (this.takes.size) {
      const [{ takeId, file, fields, token }] = this.takes.values();
      if (token !== speakerToken()) {
        await this.remove(takeId); // of a speaker who was deleted in another tab
        continue;
      }
      try {
        const take = await storeTake(takeId, file, fields);
        await this.remove(takeId);
        this.announce("stored", { take, fields });
      } catch (problem) {
        if (WAITS.includes(problem.kind) || problem.kind >= 500) {
          const asks = ASKS.includes(problem.kind);
          this.announce("waiting", { problem, asks });
          if (!asks) this.timer = setTimeout(() => this.send(), AGAIN);
          return;
        }
        await this.remove(takeId);
        this.announce("refused", { problem, fields });
      }
    }
  }

  announce(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
