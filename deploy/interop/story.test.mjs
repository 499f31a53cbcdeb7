// A visitor's whole story in the demo, as the visitor, the data team and the data protection officer see it: on a wide screen in English, on a narrow
// one in French. Run by story_test.go, which starts the demo and says where it stands.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Visitor, launch } from "./browser.mjs";

const { OCTROI_URL: gate, OCTROI_SHOP: shop, OCTROI_CONSOLE: inside, OCTROI_LOADED: loaded, OCTROI_OFFICER: officer, OCTROI_SHOTS: shots } = process.env;
const seconds = (n) => n * 1000;

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

// rows are all that the data team has of a destination.
function rows(destination) {
  const files = readdirSync(join(loaded, destination), { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ndjson") && f.startsWith("events"));
  return files.flatMap((f) => readFileSync(join(loaded, destination, f), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line)));
}

const language = { "en-GB": "en", "fr-FR": "fr" };
const said = {
  en: { accept: "Accept all", refuse: "Refuse all", add: "Add to basket", checkout: "Check out", buy: /^Buy for/, as: /^Log in as/, leave: "Log out" },
  fr: { accept: "Tout accepter", refuse: "Tout refuser", add: "Ajouter au panier", checkout: "Commander", buy: /^Acheter pour/, as: /^Entrer comme/, leave: "Se déconnecter" },
};

async function picture(v, name) {
  if (shots) await v.page.screenshot({ path: join(shots, `${name}-${v.page.viewportSize().width}.png`), fullPage: true });
}

// arrive opens the shop and waits until the banner asks.
async function arrive(options) {
  const v = await Visitor.of(browser, options);
  v.say = said[language[options.locale]];
  v.at = `${shop}/${language[options.locale]}`;
  await v.page.goto(`${v.at}/`);
  await v.page.getByRole("dialog").waitFor();
  return v;
}

const press = (v, name) => v.page.getByRole("button", { name }).first().click();
const answer = (v, name) => v.page.getByRole("dialog").getByRole("button", { name }).click();
const path = (v) => new URL(v.page.url()).pathname;

// products walks past a few, by the links that everybody clicks.
async function products(v, n) {
  for (let i = 0; i < n; i++) {
    await v.page.goto(`${v.at}/`);
    await v.page.locator("a.piece").nth(i).click();
    await v.page.getByRole("button", { name: v.say.add }).waitFor();
  }
}

// posted are the events that left the page, whatever was answered.
const posted = async (v) => (await v.of("/v1/events")).length;

for (const options of [{ width: 1280, locale: "en-GB" }, { width: 390, height: 844, locale: "fr-FR" }]) {
  describe(`${options.width} px, ${options.locale}`, () => {
    test("before a choice: no cookie, no storage, no event", async () => {
      const v = await arrive(options);
      await picture(v, "banner");
      await products(v, 2);
      await v.page.waitForTimeout(seconds(2));
      assert.deepEqual(await v.cookies(), []);
      assert.deepEqual(await v.touched(), []);
      assert.equal(await posted(v), 0);
      assert.deepEqual(v.troubles, []);
      await v.close();
    });

    test("refused: nothing is sent, and it is remembered without an id", async () => {
      const remembered = [];
      for (let i = 0; i < 2; i++) {
        const v = await arrive(options);
        await answer(v, v.say.refuse);
        await v.until(async () => (await v.cookies()).includes("octroi-refused"));
        await products(v, 2);
        await v.page.waitForTimeout(seconds(1));
        assert.equal(await v.page.getByRole("dialog").count(), 0);
        assert.equal(await posted(v), 0);
        assert.deepEqual(await v.cookies(), ["octroi-refused"]);
        remembered.push((await v.context.cookies())[0].value);
        await v.close();
      }
      assert.equal(remembered[0], remembered[1]); // the same for everybody (C8)
    });

    test("agreed and then withdrawn: nothing more is taken, and what was kept goes", async () => {
      const v = await arrive(options);
      await answer(v, v.say.accept);
      await v.until(async () => (await v.accepted()).length >= 1);
      await products(v, 1);
      const kept = await v.until(() => v.page.evaluate(() => document.querySelector("#panel-entries pre")?.textContent), seconds(40));
      const { device } = JSON.parse(kept);
      assert.match(device, /^[0-9a-f]{32}$/);
      assert.ok(rows("warehouse").some((r) => r.device === device));
      await v.page.goto(`${gate}/privacy?language=${language[options.locale]}`);
      await v.page.locator('button[name="act"][value="all"]').click();
      const before = await posted(v);
      await products(v, 2);
      await v.page.waitForTimeout(seconds(2));
      const after = (await v.of("/v1/events")).slice(before);
      assert.deepEqual(after.filter((r) => r.answer?.accepted), []);
      await v.until(() => !rows("warehouse").some((r) => r.device === device), seconds(90));
      await v.close();
    });

    test("bought, logged in, shown once, erased, and seen by the officer", async () => {
      const v = await arrive(options);
      await answer(v, v.say.accept);
      await v.until(async () => (await v.accepted()).length >= 1);
      await login(v);
      const device = await buy(v);
      await look(v);
      const request = await erase(v, device);
      await office(options, request);
      await v.close();
    });
  });
}

// login shows a loyalty card, which the site vouches for by a signed claim.
async function login(v) {
  await v.page.goto(`${v.at}/card`);
  await press(v, v.say.as);
  const link = await v.until(async () => (await v.of("/v1/identify")).at(-1), seconds(20));
  await link.done;
  assert.equal(link.status, 200, JSON.stringify(link.answer));
}

// buy buys something, and is the pseudonym under which the warehouse has it.
async function buy(v) {
  await products(v, 2);
  await press(v, v.say.add);
  await v.page.goto(`${v.at}/basket`);
  await v.page.getByRole("link", { name: v.say.checkout }).or(v.page.getByRole("button", { name: v.say.checkout })).first().click();
  await v.page.locator("#name").fill("Camille Martin");
  await v.page.locator("#email").fill("camille.martin@example.org");
  await press(v, v.say.buy);
  await v.until(async () => (await v.accepted()).some((e) => e.type === "purchase"), seconds(20));
  const kept = await v.until(() => v.page.evaluate(() => [...document.querySelectorAll("#panel-entries pre")].map((p) => JSON.parse(p.textContent)).find((r) => r.type === "purchase" && r.device)), seconds(60));
  await picture(v, "panel");
  assert.match(kept.person, /^[0-9a-f]{32}$/); // linked, and under no name
  assert.ok(kept.grants.some((g) => g.purpose === "linking"));
  assert.ok(!JSON.stringify(rows("warehouse").concat(rows("accounting"))).includes("camille.martin"));
  return kept.device;
}

// look asks for the data and opens it, the one time that it can be.
async function look(v) {
  await v.page.goto(`${gate}/privacy`);
  await picture(v, "privacy");
  await v.page.locator('form:has(input[value="access"]) button').click();
  await v.page.waitForURL(/\/privacy\/requests\/./, { waitUntil: "load" });
  const page = v.page.url();
  const open = v.page.locator('form[action*="/package"] button');
  await v.until(async () => { await v.page.goto(page); return open.count(); }, seconds(90));
  const token = await v.page.locator('form[action*="/package"]').evaluate((f) => [f.action, new URLSearchParams(new FormData(f)).toString()]);
  await open.click();
  await v.page.waitForLoadState();
  assert.match(await v.page.content(), /checkout_start|product_view|Commande|Product/);
  await picture(v, "package");
  await v.page.goto(page);
  assert.equal(await open.count(), 0);
  const again = (await v.context.request.post(token[0], { data: token[1], headers: { "Content-Type": "application/x-www-form-urlencoded" } })).status();
  assert.ok(again >= 400, `the package opened twice: ${again}`);
}

// erase takes all of it back, and waits for the certificate.
async function erase(v, device) {
  await v.page.goto(`${gate}/privacy/erasure`);
  await v.page.locator("#confirm").check();
  await v.page.locator("button.grave").click();
  await v.page.waitForURL(/\/privacy\/requests\/./, { waitUntil: "load" });
  const code = await v.page.locator("p.code").textContent();
  assert.ok(code.trim().length > 20);
  assert.ok(!(await v.cookies()).includes("octroi-dev")); // the credential is gone
  await picture(v, "erasure");
  const page = v.page.url();
  await v.until(async () => { await v.page.goto(page); return v.page.locator("#certificate").count(); }, seconds(120));
  await picture(v, "certificate");
  const certificate = await (await v.context.request.get(new URL(await v.page.locator("#certificate ~ .acts a").getAttribute("href"), gate).href)).text();
  assert.equal(certificate.split(".").length, 3);
  assert.ok(!rows("warehouse").some((r) => r.device === device));
  return path(v).split("/").at(-1);
}

// office is the other side: the console has the request, done, and its certificate.
async function office(options, request) {
  const v = await Visitor.of(browser, options);
  await v.page.goto(`${inside}/console`);
  await v.page.locator("#token").fill(readFileSync(officer, "utf8").trim());
  await v.page.locator("button.main").click();
  await v.page.waitForURL(/\/console\/requests/);
  await v.page.goto(`${inside}/console/requests?show=all`);
  await v.page.locator(`a[href="/console/requests/${request}"]`).click();
  await picture(v, "console-request");
  assert.equal(await v.page.locator(".way li:not(.done)").count(), 0);
  assert.equal(await v.page.locator(`a[href="/console/requests/${request}/certificate"]`).count(), 1);
  for (const page of ["journeys", "consents", "policies"]) {
    await v.page.goto(`${inside}/console/${page}`);
    await picture(v, `console-${page}`);
    assert.equal(await v.page.locator("h1").count(), 1);
    assert.ok(await v.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${page} is wider than the screen`);
  }
  await v.page.goto(`${inside}/console/journeys`);
  assert.ok(await v.page.locator("#sankey path").count() > 0, "the flow is not drawn");
  assert.ok(await v.page.locator("svg.map rect").count() > 0, "the map is not drawn");
  assert.deepEqual(v.troubles, []);
  await v.close();
}
