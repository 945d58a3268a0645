/** The client: decides by a snapshot that it keeps fresh, and tells the server what was shown and what happened. */

import { type Arm, type Decision, type Evaluation, type Snapshot, decide, evaluate } from "./snapshot.js";
import type { Context } from "./targeting.js";

export { bucket, choose, hash64 } from "./hash.js";
export { matches } from "./targeting.js";
export type { Context, Rule } from "./targeting.js";
export { decide, evaluate } from "./snapshot.js";
export type { Arm, Decision, Evaluation, Experiment, Flag, Snapshot } from "./snapshot.js";

/** Where variants are kept that users have got: they keep them when shares change. */
export interface Store {
  get(experiment: string, user: string): string | null | undefined;
  set(experiment: string, user: string, variant: string): void;
}

export interface Options {
  /** The server's address. */
  url: string;
  /** A key with the scope `assign`, and `events:write` to track; in a page a browser's key, which holds for its origins. */
  key: string;
  /** A snapshot to begin with, from a server-rendered page or a file. */
  snapshot?: Snapshot;
  /** How often the snapshot is asked for again; 60 by default, 0 for never. */
  pollSeconds?: number;
  /** Whether to listen for changes instead of waiting for the next poll. */
  stream?: boolean;
  store?: Store;
  /** How many exposures and events wait at most; what comes then is dropped and counted. 1,000 by default. */
  waiting?: number;
  onError?: (error: unknown) => void;
}

/** What became of exposures and events. */
export interface Stats {
  queued: number;
  sent: number;
  dropped: number;
}

interface Item {
  path: "exposures" | "events";
  body: Record<string, unknown>;
}

const BATCH = 100;
const REMEMBERED = 10_000;
const LONGEST = 30_000;
const BEACON = 60_000;

/** Variants in `localStorage`, under a prefix. */
export function localStore(prefix = "upshot:"): Store {
  const key = (...parts: string[]): string => prefix + JSON.stringify(parts);
  return {
    get: (experiment, user) => localStorage.getItem(key(experiment, user)),
    set: (experiment, user, variant) => localStorage.setItem(key(experiment, user), variant),
  };
}

export class Upshot {
  readonly stats: Stats = { queued: 0, sent: 0, dropped: 0 };
  #options: Options;
  #snapshot: Snapshot | undefined;
  #etag = "";
  #queue: Item[] = [];
  #exposed = new Set<string>();
  #timers = new Set<ReturnType<typeof setTimeout>>();
  #stopping = new AbortController();
  #listeners = new Set<() => void>();
  #sending: Promise<void> | undefined;
  #failures = 0;
  #wakeAt = 0;
  #first: Promise<boolean>;

  constructor(options: Options) {
    this.#options = { ...options, url: options.url.replace(/\/$/, "") };
    this.#snapshot = options.snapshot;
    this.#first = this.refresh();
    this.#again(() => this.refresh(), () => (options.pollSeconds ?? 60) * 1000);
    if (options.stream) void this.#listen();
    globalThis.document?.addEventListener("visibilitychange", this.#hide);
  }

  /** Whether there is a snapshot, at the latest when the server has answered once. */
  async ready(): Promise<boolean> {
    return (await this.#first) || this.#snapshot !== undefined;
  }

  /** Be told when the snapshot is another one; returns how to end that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The variant of a user in an experiment, and its exposure, told once. */
  variant(experiment: string, user: string, context: Context = {}, expose = true): Decision {
    const entry = this.#snapshot?.experiments.find(({ key, id }) => key === experiment || id === experiment);
    if (!entry) return { variant: null, reason: this.#snapshot ? "unknown_experiment" : "no_configuration" };
    let decision = decide(entry, user, context);
    if (decision.reason === "overridden") return decision;
    const stored = this.#options.store?.get(entry.key, user);
    const kept = stored && entry.variants.find(({ name }) => name === stored);
    if (kept) decision = { variant: kept, reason: "assigned" };
    else if (decision.variant) this.#options.store?.set(entry.key, user, decision.variant.name);
    if (expose && decision.variant) this.#expose(entry.key, user, decision.variant, context);
    return decision;
  }

  /** The value of a flag for a user, of the type of `fallback`, which is returned where there is none. */
  flag<T>(key: string, user: string, fallback: T, context: Context = {}, expose = true): T {
    const { value } = this.flagDetails(key, user, context, expose) ?? {};
    return value !== undefined && typeof value === typeof fallback ? (value as T) : fallback;
  }

  /** The same with its reason; undefined where there is no such flag. */
  flagDetails(key: string, user: string, context: Context = {}, expose = true): Evaluation | undefined {
    const flag = this.#snapshot?.flags.find((each) => each.key === key);
    if (!flag) return undefined;
    const entry = this.#snapshot!.experiments.find(({ id }) => id === flag.experiment);
    const shown = expose && flag.enabled && entry?.status === "running";
    const decision = entry && this.variant(entry.id, user, context, shown);
    return evaluate(flag, user, context, new Date(), entry, decision);
  }

  /** Tell an event of a user; counted once, however often it has to be sent. */
  track(user: string, type: string, properties: Record<string, unknown> = {}): void {
    const timestamp = new Date().toISOString();
    this.#add({ path: "events", body: { user_id: user, event_type: type, properties, timestamp, event_id: crypto.randomUUID() } });
  }

  /** Ask for the snapshot; whether there is one now. */
  async refresh(): Promise<boolean> {
    try {
      const response = await this.#fetch("sdk/config", { headers: this.#etag ? { "if-none-match": this.#etag } : {} });
      if (response.status === 304) return true;
      if (!response.ok) throw new Error(`the configuration was answered ${response.status}`);
      const document = await response.json();
      if (document?.format !== 1) throw new Error("the configuration is of a format that is not known here");
      this.#snapshot = document;
      this.#etag = response.headers.get("etag") ?? "";
      this.#listeners.forEach((listener) => listener());
      return true;
    } catch (error) {
      this.#failed(error);
      return this.#snapshot !== undefined;
    }
  }

  /** Send what waits; resolves when that was tried. */
  async flush(): Promise<void> {
    this.#sending ??= this.#send().finally(() => (this.#sending = undefined));
    return this.#sending;
  }

  /** Send what waits, and end. */
  async close(): Promise<void> {
    await this.flush();
    this.#timers.forEach(clearTimeout);
    this.#stopping.abort();
    globalThis.document?.removeEventListener("visibilitychange", this.#hide);
  }

  #expose(experiment: string, user: string, variant: Arm, context: Context): void {
    const seen = JSON.stringify([experiment, user, variant.name]);
    if (this.#exposed.has(seen)) return;
    if (this.#exposed.size >= REMEMBERED) this.#exposed.clear();
    this.#exposed.add(seen);
    const exposed_at = new Date().toISOString();
    this.#add({ path: "exposures", body: { user_id: user, experiment, variant: variant.name, context, exposed_at } });
  }

  #add(item: Item): void {
    if (this.#queue.length >= (this.#options.waiting ?? 1_000)) {
      this.stats.dropped++;
      return;
    }
    this.#queue.push(item);
    this.stats.queued = this.#queue.length;
    if (this.#queue.length === 1) this.#later(() => this.flush(), 1_000);
  }

  async #send(): Promise<void> {
    if (Date.now() < this.#wakeAt) return;
    while (this.#queue.length) {
      const path = this.#queue[0]!.path;
      const taken = this.#queue.filter((item) => item.path === path).slice(0, BATCH);
      const body = JSON.stringify({ [path]: taken.map((item) => item.body), sent_at: new Date().toISOString() });
      let wait = Math.random() * Math.min(LONGEST, 100 * 2 ** this.#failures);
      try {
        const response = await this.#fetch(path, { method: "POST", body, headers: { "content-type": "application/json" } });
        const refused = response.status >= 400 && response.status < 500 && ![401, 403, 408, 429].includes(response.status);
        if (response.ok || refused) {
          this.#queue = this.#queue.filter((item) => !taken.includes(item));
          this.stats[response.ok ? "sent" : "dropped"] += taken.length;
          this.stats.queued = this.#queue.length;
          this.#failures = 0;
          if (response.ok) continue;
        }
        wait = Math.max(wait, Number(response.headers.get("retry-after") ?? 0) * 1000);
        throw new Error(`${path} were answered ${response.status}`);
      } catch (error) {
        this.#failed(error);
        this.#failures++;
        this.#wakeAt = Date.now() + wait;
        this.#later(() => this.flush(), wait);
        return;
      }
    }
  }

  /** A page that goes away hands over what waits: a beacon is sent even when nobody is left to wait for the answer. */
  #hide = (): void => {
    if (document.visibilityState !== "hidden") return;
    while (this.#queue.length) {
      const taken = this.#queue.slice(0, BATCH);
      const of = (path: string) => taken.filter((item) => item.path === path).map((item) => item.body);
      const body = { key: this.#options.key, events: of("events"), exposures: of("exposures"), sent_at: new Date().toISOString() };
      const text = JSON.stringify(body);
      if (text.length > BEACON || !navigator.sendBeacon(`${this.#options.url}/beacon`, text)) return;
      this.#queue = this.#queue.slice(taken.length);
      this.stats.sent += taken.length;
      this.stats.queued = this.#queue.length;
    }
  };

  /** Ask again whenever the server says that something has changed; when it is away, later. */
  async #listen(): Promise<void> {
    try {
      const response = await this.#fetch("sdk/stream", {});
      const reader = response.ok ? response.body?.getReader() : undefined;
      const decoder = new TextDecoder();
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        if (decoder.decode(part.value, { stream: true }).includes("data:")) await this.refresh();
      }
    } catch (error) {
      this.#failed(error);
    }
    if (!this.#stopping.signal.aborted) this.#later(() => this.#listen(), 1_000 + Math.random() * 1_000);
  }

  #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = { authorization: `Bearer ${this.#options.key}`, ...init.headers };
    return fetch(`${this.#options.url}/${path}`, { ...init, headers, credentials: "omit", signal: this.#stopping.signal });
  }

  #again(work: () => Promise<unknown>, pause: () => number): void {
    if (pause() > 0) this.#later(() => work().then(() => this.#again(work, pause)), pause() * (0.9 + Math.random() / 5));
  }

  #later(work: () => Promise<unknown>, milliseconds: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void work();
    }, milliseconds);
    (timer as { unref?: () => void }).unref?.();
    this.#timers.add(timer);
  }

  #failed(error: unknown): void {
    if (!this.#stopping.signal.aborted) this.#options.onError?.(error);
  }
}
