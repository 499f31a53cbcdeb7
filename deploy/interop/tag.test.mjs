// The tag in Node: every rule of collector/tag/tag.js, with the clock and the gateway in the test's hand. Run by tag_test.go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Page, given, none, refused } from "./page.mjs";

process.on("unhandledRejection", (e) => { throw new Error(`a rejection reached the page: ${e}`); });

// open is a page whose tag has its answer, unless there is none.
async function open(options) {
  const page = new Page(options).listen();
  await page.settle();
  return page;
}

// clean: nothing escaped into the page, nothing of the device was touched.
function clean(page) {
  assert.deepEqual(page.escaped, []);
  assert.deepEqual(page.touched, []);
}

test("before the answer there is one question and nothing else", async () => {
  const page = new Page({ answers: { "/v1/choice": () => new Promise(() => {}) } });
  page.octroi("track", "product_view", { product: "p1" });
  await page.pass(19_000);
  page.hide();
  await page.settle();
  assert.deepEqual(page.requests.map((r) => r.method + " " + r.path + r.query), ["GET /v1/choice?k=demo"]);
  assert.equal(page.requests[0].options.credentials, "include");
  assert.equal(page.requests[0].options.headers, undefined, "no header: no preflight");
  assert.deepEqual(page.beacons, []);
  clean(page);
});

test("without a choice nothing is sent, ever", async () => {
  const page = await open();
  page.octroi("track", "product_view");
  await page.pass(3_600_000);
  page.hide();
  await page.settle();
  assert.equal(page.requests.length, 1);
  assert.deepEqual(page.beacons, []);
  clean(page);
});

test("under a consent held events go out in one post, with their own times", async () => {
  let answer;
  const page = new Page({ url: "https://shop.example/p/1?utm_source=news&utm_campaign=spring#x", referrer: "https://search.example/q", answers: { "/v1/choice": () => new Promise((go) => { answer = go; }) } });
  await page.pass(500);
  page.octroi("track", "product_view", { product: "p1", value: { amount: "12.30", currency: "EUR" } });
  answer(given);
  await page.pass(2_000);
  const [post] = page.posts("/v1/events");
  assert.equal(page.posts("/v1/events").length, 1);
  assert.equal(post.body.k, "demo");
  assert.deepEqual(Object.keys(post.body), ["k", "batch"]);
  assert.deepEqual(post.body.batch.map((e) => [e.type, e.time]), [["page_view", "2026-11-22T10:00:00.000Z"], ["product_view", "2026-11-22T10:00:00.500Z"]]);
  assert.deepEqual(post.body.batch[0].fields, {
    url: "https://shop.example/p/1?utm_source=news&utm_campaign=spring#x", source: "news", campaign: "spring", referrer: "https://search.example/q",
  });
  assert.deepEqual(post.body.batch[1].fields, { product: "p1", value: { amount: "12.30", currency: "EUR" } });
  assert.equal(post.options.credentials, "include");
  assert.equal(post.options.keepalive, true);
  assert.equal(post.options.headers, undefined);
  assert.notEqual(post.body.batch[0].id, post.body.batch[1].id);
  clean(page);
});

test("a referrer of the site itself is not told", async () => {
  const page = await open({ referrer: "https://shop.example/", answers: { "/v1/choice": given } });
  await page.pass(2_000);
  assert.equal(page.sent[0].fields.referrer, undefined);
});

test("a refusal drops what was held, and what comes", async () => {
  const page = await open({ answers: { "/v1/choice": refused } });
  page.octroi("track", "product_view");
  await page.pass(600_000);
  assert.equal(page.requests.length, 1);
  assert.deepEqual(page.told.map((t) => t.type + " " + (t.reason ?? t.state)), ["dropped refused", "choice refused", "dropped refused"]);
  clean(page);
});

test("a consent does not reach back: the page on show is viewed from then on", async () => {
  const page = await open({ answers: { "/v1/consents": { status: 201, state: "ConsentGiven" } } });
  page.octroi("track", "product_view");
  await page.pass(60_000);
  page.answers["/v1/choice"] = given;
  page.octroi("consent", { audience: true }, { snapshot: "s", method: "banner", language: "fr" });
  const agreed = page.now;
  await page.pass(5_000);
  page.octroi("track", "cart_add");
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view", "cart_add"]);
  assert.ok(Date.parse(page.sent[0].time) >= agreed);
  const dropped = page.told.filter((t) => t.type === "dropped");
  assert.deepEqual(dropped.map((t) => [t.reason, t.events.map((e) => e.type).join()]), [["before_consent", "page_view,product_view"]]);
  const [consent] = page.posts("/v1/consents");
  assert.deepEqual({ ...consent.body, time: "" }, { k: "demo", purposes: { audience: true }, snapshot: "s", method: "banner", language: "fr", time: "" });
  assert.deepEqual(page.posts("/v1/notice"), []);
  clean(page);
});

test("what happens between the consent's answer and the next one is sent, what happens before it is not", async () => {
  let record, answer;
  const page = await open({ data: { key: "demo", manual: "" }, answers: { "/v1/consents": () => new Promise((go) => { record = go; }) } });
  page.answers["/v1/choice"] = () => new Promise((go) => { answer = go; });
  page.octroi("consent", { audience: true }, { snapshot: "s" });
  page.octroi("track", "search");
  await page.pass(100);
  record({ status: 201 });
  await page.pass(100);
  page.octroi("track", "cart_add");
  await page.pass(100);
  answer(given);
  await page.pass(2_000);
  assert.deepEqual(page.types(), ["cart_add"]);
});

test("a consent that the browser did not keep sends nothing: blocked cookies", async () => {
  const page = await open({ answers: { "/v1/consents": { status: 201, state: "ConsentGiven" } } });
  page.octroi("consent", { audience: true }, { snapshot: "s" });
  await page.pass(60_000);
  page.octroi("track", "cart_add");
  await page.pass(60_000);
  assert.equal(page.posts("/v1/events").length, 0);
  assert.equal(page.posts("/v1/consents").length, 1);
  clean(page);
});

test("a consent without a snapshot names the notice and claims no more", async () => {
  const page = await open({ answers: { "/v1/notice": { notice: { id: "choice", text_sha256: "ab" }, snapshot: "s" }, "/v1/consents": { status: 201 } } });
  page.octroi("consent", { audience: true }, { language: "fr" });
  await page.settle();
  assert.equal(page.posts("/v1/notice")[0].query, "?k=demo&language=fr");
  const { body } = page.posts("/v1/consents")[0];
  assert.deepEqual([body.notice, body.snapshot], [{ id: "choice", text_sha256: "ab" }, undefined]);
});

test("a refusal waits for nothing", async () => {
  const page = await open({ answers: { "/v1/choice": given, "/v1/consents": { status: 201, state: "ConsentWithdrawn" } } });
  page.octroi("track", "cart_add");
  page.answers["/v1/choice"] = refused;
  page.octroi("consent", { audience: false, marketing: false });
  await page.pass(60_000);
  assert.deepEqual(page.requests.map((r) => r.path), ["/v1/choice", "/v1/consents", "/v1/choice"]);
});

test("a withdrawal holds at once, also while the gateway is down, and is tried again", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  await page.pass(2_000);
  page.octroi("track", "cart_add");
  page.octroi("withdraw");
  page.octroi("track", "purchase");
  await page.pass(1_000);
  assert.ok(page.posts("/v1/consents/withdraw").length >= 1);
  page.answers["/v1/consents/withdraw"] = {};
  page.answers["/v1/choice"] = { ...refused, state: "withdrawn" };
  await page.pass(120_000);
  page.hide();
  assert.deepEqual(page.types(), ["page_view"]);
  assert.deepEqual(page.beacons, []);
  assert.deepEqual(page.posts("/v1/consents/withdraw").at(-1).body, { k: "demo", method: "tag" });
  const tries = page.posts("/v1/consents/withdraw").length;
  await page.pass(600_000);
  assert.equal(page.posts("/v1/consents/withdraw").length, tries);
  clean(page);
});

test("a withdrawal of one purpose keeps the rest", async () => {
  const both = { ...given, purposes: { audience: true, marketing: true } };
  const page = await open({ answers: { "/v1/choice": both, "/v1/consents/withdraw": {} } });
  await page.pass(2_000);
  page.answers["/v1/choice"] = given;
  page.octroi("withdraw", ["marketing"]);
  page.octroi("track", "cart_add");
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view", "cart_add"]);
  assert.deepEqual(page.posts("/v1/consents/withdraw")[0].body.purposes, ["marketing"]);
});

test("a refusal that the gateway does not take holds all the same", async () => {
  const page = await open({ answers: { "/v1/choice": given, "/v1/consents": { status: 503 } } });
  await page.pass(2_000);
  page.octroi("consent", { audience: false, marketing: false });
  await page.pass(600_000);
  assert.ok(page.posts("/v1/consents").length > 1);
  page.octroi("track", "cart_add");
  await page.pass(60_000);
  page.hide();
  assert.deepEqual(page.types(), ["page_view"]);
  assert.deepEqual(page.beacons, []);
  page.answers["/v1/consents"] = { status: 201 };
  page.octroi("consent", { audience: true }, { snapshot: "s" }); // agreed anew
  await page.pass(60_000);
  page.octroi("track", "purchase");
  await page.pass(60_000);
  assert.ok(page.types().includes("purchase") && !page.types().includes("cart_add"));
});

test("a refusal ends at once what is on the point of going, and what is not yet known to go", async () => {
  const never = () => new Promise(() => {});
  for (const choice of [given, never]) {
    const page = await open({ answers: { "/v1/choice": choice, "/v1/consents": never } });
    page.octroi("track", "cart_add");
    page.octroi("consent", { audience: false });
    assert.deepEqual(page.told.flatMap((t) => t.events ?? []).map((e) => e.type), ["page_view", "cart_add"]);
    await page.pass(5_000);
    page.hide();
    assert.equal(page.posts("/v1/events").length, 0);
    assert.deepEqual(page.beacons, []);
  }
});

test("while a choice is on its way events wait", async () => {
  const page = await open({ answers: { "/v1/choice": given, "/v1/consents": () => new Promise(() => {}) } });
  page.octroi("consent", { audience: true, marketing: false }, { snapshot: "s" });
  await page.pass(5_000);
  assert.equal(page.posts("/v1/events").length, 0);
});

test("an answer that comes after a newer one says nothing", async () => {
  let late;
  const page = await open({ answers: { "/v1/choice": () => new Promise((go) => { late = go; }), "/v1/consents/withdraw": {} } });
  const first = late;
  page.answers["/v1/choice"] = { ...refused, state: "withdrawn" };
  page.octroi("withdraw");
  await page.settle();
  first(given);
  await page.settle();
  page.octroi("track", "cart_add");
  await page.pass(60_000);
  assert.equal(page.posts("/v1/events").length, 0);
});

test("choices keep their order: a refusal comes after the consent that hangs", async () => {
  let record;
  const page = await open({ answers: { "/v1/consents": (r) => (r.body.purposes.audience ? new Promise((go) => { record = go; }) : { status: 201 }) } });
  page.octroi("consent", { audience: true }, { snapshot: "s" });
  page.octroi("consent", { audience: false });
  await page.pass(1_000);
  assert.equal(page.posts("/v1/consents").length, 1);
  page.answers["/v1/choice"] = refused;
  record({ status: 503 });
  await page.pass(60_000);
  assert.deepEqual(page.posts("/v1/consents").map((r) => r.body.purposes.audience), [true, false], "what a newer choice follows is not tried again");
  assert.equal(page.posts("/v1/events").length, 0);
});

test("a choice that is not recorded when the page goes is a beacon", async () => {
  const page = await open();
  page.octroi("consent", { audience: false });
  await page.pass(10);
  page.hide();
  await page.settle();
  assert.deepEqual(page.beacons.map((b) => [b.path, b.body.purposes]), [["/v1/consents", { audience: false }]]);
});

test("exempt types need no choice, and go with credentials", async () => {
  const page = await open({ answers: { "/v1/choice": { ...none, exempt: ["page_view"] } } });
  page.octroi("track", "cart_add");
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view"]);
  assert.equal(page.posts("/v1/events")[0].options.credentials, "include");
});

test("a refusal of consents leaves what is exempt; an objection ends it, also while the gateway is down", async () => {
  const page = await open({ answers: { "/v1/choice": { ...refused, exempt: ["page_view"] } } });
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view"]);
  page.octroi("withdraw", ["counting"]);
  page.octroi("track", "page_view", {});
  await page.pass(600_000);
  page.octroi("track", "page_view", {});
  await page.pass(600_000);
  page.hide();
  assert.deepEqual(page.types(), ["page_view"]);
  assert.deepEqual(page.beacons.filter((b) => b.path === "/v1/events"), []);
});

test("whoever objected is not counted", async () => {
  const page = await open({ answers: { "/v1/choice": { ...none, ask: false, exempt: ["page_view"], objected: true } } });
  await page.pass(60_000);
  page.hide();
  assert.equal(page.requests.length, 1);
  assert.deepEqual(page.beacons, []);
});

test("an agreement after an exempt view does not view the page twice", async () => {
  const page = await open({ answers: { "/v1/choice": { ...none, exempt: ["page_view"] }, "/v1/consents": { status: 201 } } });
  await page.pass(5_000);
  page.answers["/v1/choice"] = { ...given, exempt: ["page_view"] };
  page.octroi("consent", { audience: true }, { snapshot: "s" });
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view"]);
});

test("no answer, 429 and 5xx are tried again from memory, with the same ids; then dropped", async () => {
  for (const answer of [undefined, { status: 503 }, { status: 429 }, { status: 500 }]) {
    const page = await open({ answers: { "/v1/choice": given, "/v1/events": answer } });
    await page.pass(600_000);
    assert.equal(page.posts("/v1/events").length, 6);
    assert.equal(new Set(page.sent.map((e) => e.id)).size, 1);
    assert.equal(page.told.at(-1).reason, "unsent");
    clean(page);
  }
});

test("Retry-After is kept", async () => {
  const page = await open({ answers: { "/v1/choice": given, "/v1/events": { status: 429, after: "90" } } });
  await page.pass(2_000);
  await page.pass(85_000);
  assert.equal(page.posts("/v1/events").length, 1);
  await page.pass(10_000);
  assert.equal(page.posts("/v1/events").length, 2);
});

test("what is answered 4xx, or refused in a 202, is not sent again", async () => {
  for (const answer of [{ status: 400 }, { status: 403 }, { status: 413 }, { accepted: 0, refused: [{ index: 0, reason: "no_consent" }] }]) {
    const page = await open({ answers: { "/v1/choice": given, "/v1/events": answer } });
    await page.pass(600_000);
    assert.equal(page.posts("/v1/events").length, 1);
  }
});

test("where everything is refused the choice is asked again: it was withdrawn in another window", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  await page.pass(70_000);
  page.answers["/v1/choice"] = { ...refused, state: "withdrawn" };
  page.answers["/v1/events"] = { accepted: 0, refused: [{ index: 0, reason: "no_consent" }] };
  page.octroi("track", "cart_add");
  await page.pass(5_000);
  page.octroi("track", "purchase");
  await page.pass(60_000);
  assert.deepEqual(page.types(), ["page_view", "cart_add"]);
  assert.equal(page.posts("/v1/choice").length, 2);
});

test("a wrong key or origin ends it", async () => {
  for (const status of [401, 403]) {
    const page = await open({ answers: { "/v1/choice": { status } } });
    await page.pass(3_600_000);
    page.fire("online");
    page.hide();
    await page.settle();
    assert.equal(page.requests.length, 1);
    assert.deepEqual(page.beacons, []);
    clean(page);
  }
});

test("a gateway that is down is asked a few times, and again when the device is back", async () => {
  const page = await open({ answers: { "/v1/choice": undefined } });
  await page.pass(3_600_000);
  assert.equal(page.requests.length, 7);
  page.answers["/v1/choice"] = given;
  page.fire("online");
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view"]);
  clean(page);
});

test("offline nothing is tried; online it goes on", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  page.window.navigator.onLine = false;
  await page.pass(60_000);
  assert.equal(page.posts("/v1/events").length, 0);
  page.window.navigator.onLine = true;
  page.fire("online");
  await page.settle();
  assert.deepEqual(page.types(), ["page_view"]);
});

test("what is left when the page goes is a beacon; what is on its way is not sent twice", async () => {
  let answer;
  const page = await open({ answers: { "/v1/choice": given, "/v1/events": () => new Promise((go) => { answer = go; }) } });
  await page.pass(2_000);
  page.octroi("track", "cart_add");
  page.hide();
  assert.deepEqual(page.beacons.map((b) => [b.path, b.body.k, b.body.batch.map((e) => e.type)]), [["/v1/events", "demo", ["cart_add"]]]);
  answer({ accepted: 1, refused: [] });
  await page.pass(60_000);
  assert.equal(page.posts("/v1/events").length, 1);
  assert.equal(page.beacons.length, 1);
});

test("without sendBeacon, or where it refuses, a post with keepalive goes out", async () => {
  for (const sendBeacon of [undefined, () => false, () => { throw new Error("hostile"); }]) {
    const page = await open({ answers: { "/v1/choice": given }, sandbox: (w) => { w.navigator.sendBeacon = sendBeacon; } });
    page.hide();
    await page.settle();
    assert.deepEqual(page.types(), ["page_view"]);
    clean(page);
  }
});

test("posts have at most 50 events and 48 KB, and memory 100", async () => {
  const page = await open({ data: { key: "demo", manual: "" }, answers: { "/v1/choice": given } });
  for (let i = 0; i < 130; i++) page.octroi("track", "cart_add", { product: "é".repeat(i < 100 ? 10 : 1500) });
  await page.pass(60_000);
  assert.equal(page.sent.length, 100);
  assert.ok(page.posts("/v1/events").every((r) => r.body.batch.length <= 50 && new TextEncoder().encode(r.options.body).length <= 48_000));
  assert.ok(page.posts("/v1/events").length >= 4);
  assert.equal(page.told.filter((t) => t.reason === "too_many").length, 30);
  page.octroi("track", "cart_add", { product: "x".repeat(20_000) });
  assert.equal(page.told.at(-1).reason, "too_large");
});

test("single-page applications: a new address is a new view, a query that is replaced is none", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  const { history } = page.window;
  history.pushState({}, "", "/p/2");
  history.pushState({}, "", "/p/2#reviews");
  history.replaceState({}, "", "/p/2?q=a");
  history.replaceState({}, "", "/p/2?q=ab");
  history.replaceState({}, "", "/p/3");
  history.pushState({}, "", "/p/3?page=2");
  page.fire("popstate");
  page.window.location.href = "https://shop.example/p/1";
  page.fire("popstate");
  await page.pass(5_000);
  assert.deepEqual(page.sent.map((e) => e.fields.url.slice(20)), ["/p/1", "/p/2", "/p/3", "/p/3?page=2", "/p/1"]);
  assert.equal(page.run("history.pushState.length >= 0 && history.pushState({}, '', '/x')"), undefined);
  clean(page);
});

test("data-manual: no view that was not asked for", async () => {
  const page = await open({ data: { key: "demo", manual: "" }, answers: { "/v1/choice": given } });
  page.window.history.pushState({}, "", "/p/2");
  page.octroi("track", "page_view", { url: "https://shop.example/mine" });
  await page.pass(5_000);
  assert.deepEqual(page.sent.map((e) => e.fields.url), ["https://shop.example/mine"]);
});

test("back out of the browser's memory the choice is asked again", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  await page.pass(2_000);
  page.answers["/v1/choice"] = refused;
  page.fire("pageshow", { persisted: true });
  page.fire("pageshow", { persisted: false });
  page.octroi("track", "cart_add");
  await page.pass(60_000);
  assert.equal(page.posts("/v1/choice").length, 2);
  assert.deepEqual(page.types().length <= 2, true);
  assert.ok(!page.types().includes("cart_add"));
});

test("a page that is prepared and never shown asks nothing", async () => {
  const page = await open({ answers: { "/v1/choice": given }, sandbox: (w) => { w.document.prerendering = true; } });
  await page.pass(60_000);
  assert.equal(page.requests.length, 0);
  page.fire("prerenderingchange");
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view"]);
});

test("the clock of the device is set right by the gateway's", async () => {
  const page = new Page({ answers: { "/v1/choice": { ...given, time: "2026-11-22T12:00:00.000Z" } } }); // this device is two hours behind
  await page.pass(5_000);
  assert.equal(page.sent[0].time, "2026-11-22T12:00:00.000Z");
});

test("a login waits for a consent; the newest counts", async () => {
  const page = await open({ answers: { "/v1/consents": { status: 201 }, "/v1/identify": { linked: true } } });
  page.octroi("identify", "claim-1");
  page.octroi("identify", "claim-2");
  await page.pass(60_000);
  assert.equal(page.posts("/v1/identify").length, 0);
  page.answers["/v1/choice"] = given;
  page.octroi("consent", { audience: true }, { snapshot: "s" });
  await page.pass(5_000);
  page.octroi("identify", null);
  await page.pass(5_000);
  assert.deepEqual(page.posts("/v1/identify").map((r) => [r.method, r.body?.claim, r.query]), [["POST", "claim-2", ""], ["DELETE", undefined, "?k=demo"]]);
});

test("a listener that fails keeps nothing from the next", async () => {
  const page = new Page({ answers: { "/v1/choice": refused } });
  page.octroi("on", () => { throw new Error("the page's own"); });
  page.listen();
  page.octroi("track", "cart_add");
  await page.settle();
  assert.deepEqual(page.told.map((t) => t.type), ["dropped", "dropped", "choice"]);
  clean(page);
});

test("calls that were made before the tag came are made, in order; listeners may fail", async () => {
  const stub = "window.octroi=window.octroi||function(){(octroi.q=octroi.q||[]).push(arguments)};";
  const page = await open({
    before: stub + "octroi('on', function () { throw new Error('the page\\'s own'); }); octroi('track', 'search', {}); octroi('track', 'cart_add'); octroi('nonsense'); octroi('__proto__'); octroi()",
    answers: { "/v1/choice": given },
  });
  await page.pass(5_000);
  assert.deepEqual(page.types(), ["page_view", "search", "cart_add"]);
  clean(page);
});

test("a second copy does nothing, nor does a tag without a key; octroi is the only global", async () => {
  const page = await open({ answers: { "/v1/choice": given } });
  const { octroi } = page.window;
  page.run((await import("node:fs")).readFileSync(new URL("../../collector/tag/tag.js", import.meta.url), "utf8"));
  await page.pass(5_000);
  assert.equal(page.window.octroi, octroi);
  assert.deepEqual(page.types(), ["page_view"]);
  assert.deepEqual(Object.keys(page.window).filter((g) => !page.globals.includes(g)), ["octroi"]);
  const keyless = new Page({ data: {} });
  await keyless.pass(5_000);
  assert.equal(keyless.requests.length, 0);
  clean(keyless);
});

test("choices and what they are for reach a banner that comes later", async () => {
  const page = new Page({ answers: { "/v1/notice": { text: "t" } } });
  page.octroi("choices");
  await page.settle();
  const first = [], second = [];
  page.octroi("on", (w) => { first.push(w.type); return w.type === "choices"; });
  page.octroi("on", (w) => { second.push(w.type); });
  assert.deepEqual([first, second], [["choice", "choices"], ["choice"]]);
  const served = [];
  page.octroi("notice", "fr-CA", (n) => served.push(n));
  await page.settle();
  page.answers["/v1/notice"] = { status: 503 };
  page.octroi("notice", "", (n) => served.push(n));
  await page.settle();
  assert.deepEqual(served, [{ text: "t" }, null]);
});

// Pages that break what the tag stands on: nothing may reach them, and nothing may leave without a choice.
const hostile = {
  "setters on Object.prototype": "for (const n of ['id','type','k','at','body','status','gone','purposes','fields','live']) Object.defineProperty(Object.prototype, n, {set() { throw new Error(n) }, get() { return undefined }, configurable: true})",
  "a frozen Object.prototype": "Object.freeze(Object.prototype); Object.freeze(Array.prototype); Object.freeze(Function.prototype)",
  "JSON that throws": "JSON.stringify = JSON.parse = () => { throw new Error('json') }",
  "JSON of another kind": "JSON.stringify = () => 'x'; JSON.parse = () => 0",
  "toJSON on everything": "Object.prototype.toJSON = () => { throw new Error('toJSON') }; Array.prototype.toJSON = () => '[]'",
  "no fetch": "fetch = undefined",
  "fetch that throws": "fetch = () => { throw new Error('fetch') }",
  "fetch that answers nonsense": "fetch = () => 7",
  "no beacon, no crypto, no AbortController, no TextEncoder": "navigator.sendBeacon = crypto = AbortController = TextEncoder = undefined",
  "crypto that throws": "crypto.getRandomValues = () => { throw new Error('crypto') }",
  "a history that is frozen": "Object.freeze(history)",
  "no history": "history = undefined",
  "array methods that throw": "for (const n of ['push','filter','forEach','map','slice','splice','shift','concat','indexOf','some','every','join']) Array.prototype[n] = () => { throw new Error(n) }",
  "Promise replaced": "Promise = function () { throw new Error('promise') }",
  "Object.assign and keys that throw": "Object.assign = Object.keys = () => { throw new Error('object') }",
  "an octroi that cannot be written": "Object.defineProperty(window, 'octroi', {value: 1, writable: false})",
  "an element called octroi": "window.octroi = { tagName: 'A' }",
  "an element called currentScript": "document.currentScript = { tagName: { value: 'SCRIPT' }, src: 'https://evil.example/', dataset: { key: 'demo' } }",
  "no currentScript": "document.currentScript = null",
  "timers that throw": "setTimeout = clearTimeout = () => { throw new Error('timer') }",
  "listeners that throw": "addEventListener = document.addEventListener = () => { throw new Error('listener') }",
  "a URL that throws": "URL = URLSearchParams = function () { throw new Error('url') }",
  "a stub whose queue is nonsense": "window.octroi = function () {}; octroi.q = { length: 3, 0: null, 1: 7, get 2() { throw new Error('q') } }",
};
for (const [name, before] of Object.entries(hostile)) {
  test(`a hostile page: ${name}`, async () => {
    for (const choice of [none, refused, given]) {
      const page = new Page({ before, answers: { "/v1/choice": choice, "/v1/consents": { status: 201 }, "/v1/consents/withdraw": {}, "/v1/notice": { notice: {} } } });
      page.escaped.length = 0; // those of the page's own
      const call = (...c) => { if (typeof page.window.octroi === "function") page.octroi(...c); };
      const circular = {};
      circular.self = circular;
      call("on", () => {});
      call("track", "cart_add", circular);
      call("track", "cart_add", { get x() { throw new Error("getter"); } });
      call("track");
      call("track", Symbol("x"), 1n);
      call("consent");
      call("consent", 7, 7);
      call("withdraw", 7);
      call("identify", {});
      call("notice");
      call("on", 7);
      page.fire("popstate");
      page.hide();
      page.fire("pageshow", { persisted: true });
      page.fire("online");
      await page.pass(120_000);
      assert.deepEqual(page.escaped, []);
      assert.deepEqual(page.touched, []);
      assert.ok(page.requests.every((r) => r.origin === "https://gate.example"), "to the gateway alone");
      if (choice !== given) {
        assert.deepEqual(page.posts("/v1/events"), []);
        assert.deepEqual(page.beacons.filter((b) => b.path === "/v1/events"), []);
      }
    }
  });
}
