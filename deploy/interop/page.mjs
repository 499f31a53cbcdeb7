// A page for the tag to run in, without a browser: a window with a clock that a test moves, a gateway whose answers a test gives, and traps on
// everything that keeps something on the device. What the tag touches of the traps, and what it lets escape, is recorded.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = readFileSync(new URL("../../collector/tag/tag.js", import.meta.url), "utf8");

export const none = { state: "none", purposes: {}, ask: true, exempt: [], objected: false, linked: false };
export const given = { ...none, state: "given", purposes: { audience: true, marketing: false }, ask: false };
export const refused = { ...none, state: "refused", purposes: { audience: false, marketing: false }, ask: false };

export class Page {
  now = Date.parse("2026-11-22T10:00:00Z");
  requests = []; // {method, path, body, options}
  beacons = []; // {path, body}
  told = []; // by octroi("on", …)
  touched = []; // storage
  escaped = []; // errors that reached the page
  answers = { "/v1/choice": none, "/v1/events": (r) => ({ accepted: r.body.batch.length, refused: [] }) }; // by path: a body, {status, …}, or a function
  #timers = [];
  #listeners = {};

  constructor({ url = "https://shop.example/p/1", referrer = "", data = { key: "demo" }, before = "", answers = {}, sandbox = () => {} } = {}) {
    Object.assign(this.answers, answers);
    const page = this;
    const listen = (type, f) => (this.#listeners[type] ??= []).push(f);
    const location = new URL(url);
    const window = {
      URL, URLSearchParams, TextEncoder, AbortController, location, addEventListener: listen, console: {},
      history: {
        pushState(_state, _title, to) { location.href = new URL(to, location.href).href; },
        replaceState(_state, _title, to) { location.href = new URL(to, location.href).href; },
      },
      navigator: { onLine: true, sendBeacon: (to, body) => page.beacon(to, body) },
      crypto: { getRandomValues: (b) => crypto.getRandomValues(b) },
      document: {
        currentScript: { tagName: "SCRIPT", src: "https://gate.example/v1/tag.js", dataset: data }, referrer, visibilityState: "visible", addEventListener: listen,
      },
      Date: class extends Date { static now() { return page.now; } constructor(...a) { super(...(a.length ? a : [page.now])); } },
      setTimeout: (f, ms = 0) => page.#timers.push({ at: page.now + ms, f }),
      clearTimeout: (n) => { if (page.#timers[n - 1]) page.#timers[n - 1].f = () => {}; },
      fetch: (to, options) => page.#fetch(to, options),
    };
    window.window = window;
    for (const [owner, name] of [
      [window.document, "cookie"], ...["localStorage", "sessionStorage", "indexedDB", "caches", "cookieStore", "name"].map((n) => [window, n]),
      [window.navigator, "storage"], [window.navigator, "userAgent"], [window.navigator, "serviceWorker"],
    ]) {
      Object.defineProperty(owner, name, {
        get() { page.touched.push(`read ${name}`); throw new Error("trap"); },
        set() { page.touched.push(`wrote ${name}`); throw new Error("trap"); },
      });
    }
    sandbox(window);
    this.window = window;
    this.context = vm.createContext(window);
    this.globals = Object.keys(window);
    this.run(before);
    this.run(source);
  }

  // run is a script of the page: an error in it is one that the page would see.
  run(code) {
    try { return vm.runInContext(code, this.context); } catch (e) { this.escaped.push(e); }
  }

  // octroi is a call by the page.
  octroi(...call) {
    try { this.window.octroi(...call); } catch (e) { this.escaped.push(e); }
  }

  listen() { this.octroi("on", (what) => { this.told.push(what); }); return this; }

  async #fetch(to, options) {
    const url = new URL(to);
    const request = { method: options.method, origin: url.origin, path: url.pathname, query: url.search, body: options.body && JSON.parse(options.body), size: options.body?.length, options };
    this.requests.push(request);
    let answer = this.answers[url.pathname];
    if (typeof answer === "function") answer = await answer(request);
    if (answer === undefined) throw new TypeError("Failed to fetch");
    const { status = url.pathname === "/v1/events" ? 202 : 200, after = null, ...body } = answer;
    return { status, headers: { get: (name) => (name === "Retry-After" ? after : null) }, json: async () => structuredClone(body) };
  }

  beacon(to, body) {
    this.beacons.push({ path: new URL(to).pathname, body: JSON.parse(body), size: body.length });
    return true;
  }

  // settle lets everything run that waits for nothing but itself.
  async settle() { for (let i = 0; i < 10; i++) await new Promise((go) => setImmediate(go)); }

  // pass lets time pass, timer by timer.
  async pass(ms) {
    const end = this.now + ms;
    await this.settle();
    for (;;) {
      const next = this.#timers.filter((t) => t.f && t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.now = Math.max(this.now, next.at);
      const f = next.f;
      next.f = null;
      try { f(); } catch (e) { this.escaped.push(e); }
      await this.settle();
    }
    this.now = end;
  }

  fire(type, event = {}) {
    for (const f of [...(this.#listeners[type] ?? [])]) {
      try { f(event); } catch (e) { this.escaped.push(e); }
    }
  }

  hide() {
    this.window.document.visibilityState = "hidden";
    this.fire("visibilitychange");
    this.fire("pagehide");
  }

  posts(path) { return this.requests.filter((r) => r.path === path); }

  // sent are the events of all posts, in order.
  get sent() { return this.posts("/v1/events").flatMap((r) => r.body.batch); }

  types() { return this.sent.map((e) => e.type); }
}
