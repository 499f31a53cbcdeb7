// Debian's Chromium, driven by playwright-core: what a visitor's browser does, with an eye on everything that keeps something on the device.
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const places = [process.env.OCTROI_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

function command() {
  const executablePath = places.find((p) => p && existsSync(p));
  if (!executablePath) throw new Error("no Chromium: apt-get install chromium");
  const root = process.getuid?.() === 0; // its sandbox does not run as root
  return { executablePath, args: ["--disable-dev-shm-usage", ...(root ? ["--no-sandbox"] : [])] };
}

export function launch() { return chromium.launch(command()); }

// watch runs in each document before any script of the page: window.touched lists each use of something that reads or writes the device.
function watch() {
  const touched = [];
  Object.defineProperty(window, "touched", { value: touched });
  const note = (owner, name) => {
    const p = owner && Object.getOwnPropertyDescriptor(owner, name);
    if (!p || !p.configurable) return;
    const seen = (f, what) => f && function (...a) { touched.push(what); return f.apply(this, a); };
    Object.defineProperty(owner, name, typeof p.value === "function" ? { ...p, value: seen(p.value, name) } : { ...p, get: seen(p.get, `read ${name}`), set: seen(p.set, `wrote ${name}`) });
  };
  note(Document.prototype, "cookie");
  for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches", "cookieStore", "name"]) note(window, name);
  for (const type of ["Storage", "IDBFactory", "CacheStorage", "CookieStore", "StorageManager", "SharedWorker", "BroadcastChannel"]) {
    const owner = window[type]?.prototype;
    for (const name of owner ? Object.getOwnPropertyNames(owner) : []) if (name !== "constructor") note(owner, name);
  }
  note(Navigator.prototype, "serviceWorker");
  note(Navigator.prototype, "userAgent");
}

// Visitor is a browser profile of its own, with a page. Its requests, answers and troubles are kept as they come.
export class Visitor {
  requests = []; // {method, url, path, body, status, answer}; of other origins too
  troubles = []; // errors that reached the page, and what a Content-Security-Policy stopped
  #folder; // of a browser of its own

  static async of(browser, { width = 1280, height = 900, locale = "en-GB", ...more } = {}) {
    return new Visitor().#begin(await browser.newContext({ viewport: { width, height }, locale, ...more }));
  }

  // blocked is a browser of its own whose owner has forbidden all cookies, and with them all storage.
  static async blocked() {
    const folder = await mkdtemp(join(tmpdir(), "octroi-browser-"));
    await mkdir(join(folder, "Default"));
    await writeFile(join(folder, "Default", "Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
    const v = await new Visitor().#begin(await chromium.launchPersistentContext(folder, command()));
    v.#folder = folder;
    return v;
  }

  async #begin(context) {
    const v = this;
    v.context = context;
    await v.context.addInitScript(watch);
    v.page = await v.context.newPage();
    v.page.on("pageerror", (e) => v.troubles.push(String(e)));
    v.page.on("console", (m) => { if (/Content Security Policy|Uncaught|integrity/i.test(m.text())) v.troubles.push(m.text()); });
    v.page.on("request", (r) => v.requests.push(v.#note(r)));
    return v;
  }

  #note(r) {
    const url = new URL(r.url());
    const out = { method: r.method(), url: r.url(), path: url.pathname, body: r.postData(), done: null };
    out.done = r.response().then(async (a) => {
      out.status = a?.status();
      out.answer = await a?.json().catch(() => undefined);
    }).catch(() => {});
    return out;
  }

  // of are the requests to a path, once answered.
  async of(path) {
    const list = this.requests.filter((r) => r.path === path && r.method !== "OPTIONS");
    await Promise.all(list.map((r) => r.done));
    return list;
  }

  // accepted are the events that the gateway took, of those that were posted while the page stood.
  async accepted() {
    return (await this.of("/v1/events")).flatMap((r) => {
      const out = (r.answer?.refused ?? []).map((x) => x.index);
      return r.status === 202 ? JSON.parse(r.body).batch.filter((_, i) => !out.includes(i)) : [];
    });
  }

  async cookies() { return (await this.context.cookies()).map((c) => c.name).sort(); }

  // touched is what any frame of the page used of the device.
  async touched() { return (await Promise.all(this.page.frames().map((f) => f.evaluate(() => window.touched).catch(() => [])))).flat(); }

  async until(what, ms = 15_000) {
    for (const end = Date.now() + ms; Date.now() < end;) {
      const got = await what();
      if (got) return got;
      await new Promise((go) => setTimeout(go, 50));
    }
    throw new Error(`never: ${what}`);
  }

  async close() {
    await this.context.close();
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
  }
}
