// tag.js and banner.js in a real browser against the real gateway, put on a page by what `octroi snippet` prints, under the Content-Security-Policy
// that it prints and nothing more. Run by tag_test.go, which says where gateway and pages stand.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Visitor, launch } from "./browser.mjs";

const { OCTROI_URL: gate, OCTROI_PRIVATE: inside, OCTROI_SHOP: shop, OCTROI_EVIL: evil, OCTROI_SNIPPET: snippet, OCTROI_COUNTED: counted, OCTROI_COUNTED_SNIPPET: countedSnippet, OCTROI_SHOTS: shots } = process.env;
const csp = `default-src 'none'; base-uri 'none'; ${snippet.match(/script-src [^;]+;/)[0]} ${snippet.match(/connect-src [^;]+;/)[0]}`;
const head = snippet.slice(0, snippet.indexOf("<!-- at the foot"));
const link = snippet.match(/<a [^\n]+/)[0];

// The pages: of the shop, and of somebody else's origin. ?csp=none takes the policy away, ?csp=blocked forbids every connection, ?link=no the link.
const page = (lang, body, top = head) => `<!doctype html><html lang="${lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Shop</title>${top}
<h1>${lang === "fr" ? "Boutique" : "Shop"}</h1><p>${"Lorem ipsum dolor sit amet, consectetur adipiscing elit. ".repeat(40)}</p><button id="buy">Buy</button>${body}`;
const html = (response, body, headers = {}) => response.writeHead(200, { "Content-Type": "text/html", ...headers }).end(body);
const policies = { none: undefined, blocked: csp.replace(/connect-src [^;]+;/, "connect-src 'none';") };
const shopServer = createServer((request, response) => {
  const url = new URL(request.url, shop);
  const policy = url.searchParams.has("csp") ? policies[url.searchParams.get("csp")] : csp;
  html(response, page(url.searchParams.get("lang") ?? "en", url.searchParams.has("link") ? "" : link), policy ? { "Content-Security-Policy": policy } : {});
});
const evilServer = createServer((request, response) => {
  if (request.url === "/frame") html(response, `<!doctype html><title>Win</title><iframe src="${shop}/" width="900" height="700"></iframe>`);
  else if (request.url === "/sandbox") html(response, `<!doctype html><title>Win</title><iframe sandbox="allow-scripts" src="${shop}/" width="900" height="700"></iframe>`);
  else html(response, page("en", ""));
});

// A shop that counts only what needs no consent, at a gateway of its own.
const countedServer = createServer((_, response) => html(response, page("en", "", countedSnippet)));

let browser;
before(async () => {
  shopServer.listen(new URL(shop).port, "127.0.0.1");
  evilServer.listen(new URL(evil).port, "127.0.0.1");
  countedServer.listen(new URL(counted).port, "127.0.0.1");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  shopServer.close();
  evilServer.close();
  countedServer.close();
});

async function visit(path = "/", options = {}) {
  const v = await Visitor.of(browser, options);
  await v.page.goto((options.at ?? shop) + path);
  return v;
}

const dialog = (v) => v.page.getByRole("dialog");
const press = (v, name) => dialog(v).getByRole("button", { name }).click();
const asked = async (v) => { await dialog(v).waitFor(); return v; };
const track = (v, type, fields) => v.page.evaluate(([t, f]) => window.octroi("track", t, f), [type, fields]);

// known waits until the tag has the answer of the choice; quiet until whatever would have been sent has been.
const known = async (v) => v.until(async () => (await v.of("/v1/choice")).at(-1)?.answer);
const quiet = (v) => v.page.waitForTimeout(1_500);

async function settled(v) {
  assert.deepEqual(v.troubles, []);
  assert.deepEqual(await v.touched(), []);
  await v.close();
}

// figure is one of the gateway's own, by type of event.
async function figure(name, type) {
  const text = await (await fetch(`${inside}/metrics`)).text();
  return Number(text.split("\n").find((l) => l.startsWith(name) && l.includes(`type="${type}"`))?.split(" ").at(-1) ?? 0);
}

describe("tag and banner in Chromium", { concurrency: 4, timeout: 120_000 }, () => {
  test("before a choice nothing is read, written or sent", async () => {
    const v = await asked(await visit());
    await track(v, "product_view", { product: "p1" });
    await quiet(v);
    const asked_ = v.requests.filter((r) => r.url.startsWith(gate)).map((r) => r.method + " " + r.path.replace(/-[0-9a-f]{12}/, "-V"));
    assert.deepEqual([...new Set(asked_)].sort(), ["GET /v1/banner-V.js", "GET /v1/choice", "GET /v1/notice", "GET /v1/tag-V.js"]);
    assert.deepEqual(await v.cookies(), []);
    assert.deepEqual(await v.touched(), []);
    await v.page.goto("about:blank"); // nothing leaves with the page either
    await quiet(v);
    assert.deepEqual(await v.of("/v1/events"), []);
    assert.deepEqual(v.troubles, []);
    await v.close();
  });

  test("the banner takes no focus, hides no page, and Escape chooses nothing", async () => {
    const v = await asked(await visit());
    assert.equal(await v.page.evaluate(() => document.activeElement.tagName), "BODY");
    await v.page.keyboard.press("Tab"); // it comes first to a keyboard
    assert.equal(await v.page.evaluate(() => document.activeElement.outerHTML.slice(0, 40)), '<div data-octroi-banner=""></div>');
    await v.page.locator("#buy").click({ trial: true });
    await v.page.keyboard.press("Escape");
    assert.ok(await dialog(v).isVisible());
    const [refuse, accept] = await Promise.all(["Refuse all", "Accept all"].map((name) => dialog(v).getByRole("button", { name }).evaluate((b) => {
      const s = getComputedStyle(b), r = b.getBoundingClientRect();
      return { width: Math.round(r.width), height: Math.round(r.height), top: r.top, color: s.color, background: s.backgroundColor, border: s.border, font: s.font };
    })));
    assert.deepEqual(refuse, accept, "to refuse weighs what to agree weighs");
    await settled(v);
  });

  test("accept: events are taken, on this page and the next", async () => {
    const v = await asked(await visit("/?utm_campaign=spring"));
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length);
    assert.deepEqual((await v.accepted()).map((e) => [e.type, e.fields.campaign]), [["page_view", "spring"]]);
    const [cookie] = await v.context.cookies();
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["octroi-dev", true, "Lax"]);
    assert.deepEqual(JSON.parse((await v.of("/v1/consents"))[0].body).snapshot !== undefined, true);
    await v.page.evaluate(() => { history.pushState({}, "", "/p/2"); });
    await track(v, "cart_add", { product: "p2", value: { amount: "12.30", currency: "EUR" } });
    await v.until(async () => (await v.accepted()).length === 3);
    await v.page.goto(`${shop}/p/3`);
    await v.until(async () => (await v.accepted()).length === 4);
    assert.equal(await dialog(v).count(), 0);
    assert.deepEqual((await v.accepted()).map((e) => new URL(e.fields.url ?? shop).pathname), ["/", "/p/2", "/", "/p/3"]);
    await settled(v);
  });

  test("refuse: nothing is sent, and it is remembered without an id", async () => {
    const v = await asked(await visit());
    await press(v, "Refuse all");
    await v.until(async () => (await v.cookies()).length);
    await track(v, "cart_add");
    await v.page.goto(`${shop}/p/1`);
    assert.equal((await known(v)).state, "refused");
    await track(v, "cart_add");
    await quiet(v);
    assert.deepEqual(await v.cookies(), ["octroi-refused"]);
    assert.match((await v.context.cookies())[0].value, /^[a-z_.0-9+]+$/, "a version, the same for everybody");
    assert.equal(await dialog(v).count(), 0);
    assert.deepEqual(await v.of("/v1/events"), []);
    await settled(v);
  });

  test("choose by keyboard alone: Escape goes back, a box is ticked, one purpose is agreed to", async () => {
    const v = await asked(await visit());
    const to = async (name) => {
      for (let i = 0; i < 40; i++) {
        await v.page.keyboard.press("Tab");
        const at = await v.page.evaluate(() => { const e = document.activeElement.shadowRoot?.activeElement; return e?.labels?.[0]?.textContent ?? e?.textContent ?? ""; });
        if (at === name) return;
      }
      throw new Error(`no way to ${name}`);
    };
    await to("Choose");
    await v.page.keyboard.press("Enter");
    assert.equal(await dialog(v).getAttribute("aria-modal"), "true");
    assert.deepEqual(await dialog(v).getByRole("checkbox").evaluateAll((all) => all.filter((b) => b.checked).length), 0, "nothing is ticked beforehand");
    await v.page.keyboard.press("Escape");
    assert.equal(await dialog(v).getAttribute("aria-modal"), "false");
    assert.deepEqual(await v.of("/v1/consents"), []);
    await v.page.keyboard.press("Enter"); // the focus is on Choose again
    await to("Audience measurement");
    await v.page.keyboard.press("Space");
    await to("Save my choices");
    await v.page.keyboard.press("Enter");
    await v.until(async () => (await v.accepted()).length);
    const { purposes } = JSON.parse((await v.of("/v1/consents"))[0].body);
    assert.deepEqual(Object.keys(purposes).filter((p) => purposes[p]), ["audience"]);
    assert.ok(Object.keys(purposes).length > 1);
    await settled(v);
  });

  test("withdraw: as easy as to agree; no event after it", async () => {
    const v = await asked(await visit());
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length === 1);
    await v.page.getByRole("link", { name: "My choices" }).click();
    await asked(v);
    assert.equal(await dialog(v).getByRole("checkbox", { checked: false }).count(), 0, "what was chosen is shown");
    await press(v, "Refuse all");
    await track(v, "cart_add");
    await v.until(async () => (await v.of("/v1/choice")).at(-1)?.answer?.state === "withdrawn");
    await v.page.goto(`${shop}/p/1`);
    assert.equal((await known(v)).state, "withdrawn");
    await track(v, "cart_add");
    await quiet(v);
    assert.equal((await v.accepted()).length, 1);
    assert.equal((await v.of("/v1/events")).length, 1);
    await settled(v);
  });

  test("the choices open again, also from a page without a link, and close without changing anything", async () => {
    const v = await asked(await visit("/?link=no"));
    await press(v, "Refuse all");
    await v.page.getByRole("button", { name: "My choices" }).click();
    await press(v, "Close without changing");
    assert.equal(await dialog(v).count(), 0);
    await v.page.evaluate(() => window.octroi("choices"));
    await asked(v);
    await v.page.keyboard.press("Escape");
    assert.equal(await dialog(v).count(), 0);
    assert.equal((await v.of("/v1/consents")).length, 1);
    await settled(v);
  });

  test("what is left when the page goes is a beacon", async () => {
    const v = await asked(await visit());
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length === 1);
    const was = await figure("octroi_events_accepted_total", "survey");
    await track(v, "survey", { score: "9" });
    await v.page.goto("about:blank");
    await v.until(async () => await figure("octroi_events_accepted_total", "survey") === was + 1);
    assert.deepEqual(v.troubles, []);
    await v.close();
  });

  test("a proof that has grown old is read again: the same text was answered", async () => {
    const v = await visit();
    let first = true;
    await v.context.route(`${gate}/v1/consents`, async (route) => {
      if (!first) return route.continue();
      first = false;
      const body = JSON.stringify({ status: 409, code: "snapshot_expired" });
      await route.fulfill({ status: 409, body, contentType: "application/problem+json", headers: { "Access-Control-Allow-Origin": shop, "Access-Control-Allow-Credentials": "true" } });
    });
    await asked(v);
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length);
    assert.deepEqual((await v.of("/v1/consents")).map((r) => r.status), [409, 201]);
    assert.equal(await dialog(v).count(), 0);
    await settled(v);
  });

  test("a gateway that is down", async () => {
    const v = await Visitor.of(browser);
    await v.context.route(`${gate}/v1/{choice,notice,events,consents}**`, (route) => route.abort());
    await v.page.goto(shop);
    await v.until(async () => (await v.of("/v1/choice")).length >= 2);
    await track(v, "cart_add");
    await v.page.locator("#buy").click();
    assert.equal(await dialog(v).count(), 0);
    assert.deepEqual(await v.of("/v1/events"), []);
    await settled(v);
  });

  test("a gateway that takes eight seconds: the page is there at once, and the choice works", async () => {
    const v = await Visitor.of(browser);
    let used;
    const usable = new Promise((go) => { used = go; });
    await v.context.route(`${gate}/v1/choice**`, async (route) => { await usable; await new Promise((go) => setTimeout(go, 8_000)); await route.continue(); });
    await v.page.goto(shop);
    await v.page.locator("#buy").click();
    used(); // the page has waited for nothing
    await dialog(v).waitFor({ timeout: 20_000 });
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length, 30_000);
    await settled(v);
  });

  test("blocked cookies: an agreement that cannot be kept sends nothing", async () => {
    const v = await Visitor.blocked();
    try {
      await v.page.goto(shop);
      await asked(v);
      await press(v, "Accept all");
      await v.until(async () => (await v.of("/v1/choice")).length === 2);
      await track(v, "cart_add");
      await quiet(v);
      assert.equal((await v.of("/v1/consents"))[0].status, 201);
      assert.deepEqual(await v.of("/v1/events"), []);
      assert.equal(await dialog(v).count(), 0, "it does not ask twice on a page");
      assert.deepEqual([v.troubles, await v.touched()], [[], []]);
      assert.deepEqual(await v.cookies(), [], "they are blocked indeed");
    } finally {
      await v.close(); // a browser of its own, which nobody else ends
    }
  });

  test("blocked storage", async () => {
    const v = await Visitor.of(browser);
    await v.context.addInitScript(() => {
      for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches"]) Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
    });
    await v.page.goto(shop);
    await asked(v);
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length);
    await settled(v);
  });

  test("offline: kept in memory, sent when the device is back", async () => {
    const v = await asked(await visit());
    await press(v, "Accept all");
    await v.until(async () => (await v.accepted()).length === 1);
    await v.context.setOffline(true);
    await track(v, "cart_add");
    await quiet(v);
    assert.equal((await v.accepted()).length, 1);
    await v.context.setOffline(false);
    await v.until(async () => (await v.accepted()).length === 2);
    await settled(v);
  });

  test("a frame of another origin: no banner to be tricked into, and no consent that would hold", async () => {
    const v = await visit("/frame", { at: evil });
    const frame = await v.until(() => v.page.frames().find((f) => f.url().startsWith(shop)));
    await v.until(async () => (await v.of("/v1/choice")).length);
    await quiet(v);
    assert.equal(await frame.locator("[data-octroi-banner]").count(), 0);
    await frame.evaluate(() => window.octroi("consent", { audience: true }, {})); // even if the page itself were made to
    await v.until(async () => (await v.of("/v1/consents")).length);
    await v.until(async () => (await v.of("/v1/choice")).length >= 2);
    await quiet(v);
    assert.deepEqual(await v.of("/v1/events"), []);
    assert.deepEqual(await v.cookies(), []);
    assert.deepEqual(v.troubles, []);
    await v.close();
  });

  test("a sandboxed frame has no origin, and gets no answer", async () => {
    const v = await visit("/sandbox", { at: evil });
    await v.until(async () => (await v.of("/v1/choice")).length);
    assert.equal((await v.of("/v1/choice"))[0].answer, undefined);
    await quiet(v);
    assert.equal(v.requests.filter((r) => r.url.startsWith(gate) && !r.path.endsWith(".js")).every((r) => r.path === "/v1/choice"), true);
    assert.deepEqual(v.troubles, []);
    await v.close();
  });

  test("another origin with the site key is told nothing, and sends nothing", async () => {
    const v = await visit("/", { at: evil });
    await v.until(async () => (await v.of("/v1/choice")).length);
    assert.equal((await v.of("/v1/choice"))[0].answer, undefined);
    await track(v, "purchase");
    await quiet(v);
    assert.equal(v.requests.filter((r) => r.url.startsWith(gate) && !r.path.endsWith(".js")).every((r) => r.path === "/v1/choice"), true);
    assert.equal(await dialog(v).count(), 0);
    await settled(v);
  });

  test("a policy that forbids every connection", async () => {
    const v = await visit("/?csp=blocked");
    await v.page.waitForFunction(() => window.octroi?.live);
    await track(v, "cart_add");
    await v.page.locator("#buy").click();
    assert.ok(v.troubles.length > 0 && v.troubles.every((t) => /connect/i.test(t) && !/Uncaught|script-src|style-src/.test(t)), "what the policy stopped, and nothing else");
    assert.deepEqual(await v.touched(), []);
    await v.close();
  });

  test("a count that needs no consent, and the objection to it", async () => {
    const v = await visit("/", { at: counted });
    await v.until(async () => (await v.accepted()).length === 1);
    assert.deepEqual([await v.cookies(), await dialog(v).count()], [[], 0]);
    await v.page.getByRole("link", { name: "My choices" }).click();
    await asked(v);
    if (shots) await v.page.screenshot({ path: `${shots}/objection-en-1280.png`, animations: "disabled" });
    await press(v, "Object to the count");
    await v.until(async () => (await v.of("/v1/choice")).at(-1)?.answer?.objected);
    await v.page.goto(`${counted}/p/1`);
    assert.equal((await known(v)).objected, true);
    await track(v, "product_view", { product: "p1" });
    await quiet(v);
    assert.equal((await v.of("/v1/events")).length, 1);
    assert.deepEqual(await v.cookies(), ["octroi-objected"]);
    await settled(v);
  });

  for (const [lang, title] of [["fr", "Vos choix"], ["en", "Your choices"]]) {
    for (const width of [1280, 390]) {
      test(`the banner in ${lang}, ${width} wide`, async () => {
        const v = await asked(await visit(`/?lang=${lang}`, { width, height: 844, locale: "de-DE", colorScheme: width === 390 && lang === "en" ? "dark" : "light" }));
        await dialog(v).getByRole("heading", { name: title }).waitFor();
        assert.equal(await dialog(v).getAttribute("lang"), lang);
        const fits = () => dialog(v).evaluate((d) => {
          const r = d.getBoundingClientRect(), b = [...d.querySelectorAll("button")];
          return r.left >= 0 && r.right <= innerWidth && r.top >= 0 && r.bottom <= innerHeight && document.documentElement.scrollWidth <= innerWidth &&
            b.every((x) => x.scrollWidth <= x.clientWidth + 1 && x.getBoundingClientRect().bottom <= r.bottom && x.getBoundingClientRect().height >= 44);
        });
        assert.ok(await fits());
        assert.ok(await dialog(v).evaluate((d) => d.getBoundingClientRect().height <= innerHeight * 0.62), "most of the page stays in sight");
        if (shots) await v.page.screenshot({ path: `${shots}/banner-${lang}-${width}.png`, animations: "disabled" });
        await press(v, lang === "fr" ? "Choisir" : "Choose");
        await dialog(v).getByRole("checkbox").first().waitFor();
        assert.ok(await fits());
        if (shots) await v.page.screenshot({ path: `${shots}/choices-${lang}-${width}.png`, animations: "disabled" });
        await settled(v);
      });
    }
  }
});
