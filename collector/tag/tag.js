// Octroi's tag. Until a person has chosen it asks the gateway one question, GET /v1/choice, sends nothing else, and reads and writes nothing (G13).
//
//   - No cookie and no storage of any kind, ever. What this browser chose is the gateway's answer; the browser sends its cookies by itself.
//   - Until that answer, and until a choice, events stay in memory. A refusal drops them, and so does a consent: it does not reach back, and the gate
//     would refuse them (G14). The page on show when a person agrees is viewed from then on: a new page_view, with an id and a time of its own.
//     What happened between the consent's answer and the next one is sent; so is what was held while an older consent was looked up.
//   - Types that need no choice (exempt) are sent unless the person objected; with credentials, since the gateway sees an objection by its cookie.
//   - Nothing here throws into the page. What cannot be sent is tried again from memory, some times, and dropped.
//
// Lines like these are not served (tag.go).
(function (w, d) {
  "use strict";
  var HELD = 100, EVENTS = 50, BYTES = 48e3, TRIES = 6, MINUTE = 6e4;
  var gate, key, manual;
  // As the gateway answered it; null: not known.
  var choice = null;
  // Events: until it is known whether they may go; that may go; those of them that are on their way.
  var held = [], waiting = [], flying = [];
  // When the consent was recorded that held events must follow; 0: before this page.
  var since = 0;
  // What this device's clock lacks, in milliseconds, so that no event looks older than the consent it follows.
  var skew = 0;
  // Undefined: nobody logged in or out that the gateway has not been told of; null: a logout.
  var login;
  // A refusal or withdrawal that the gateway did not take: it holds here all the same, until the person agrees anew.
  var unheard;
  var jobs = [], deciding = 0, working, asked = 0, askedAt, timer, fails = 0;
  var listeners = [], reopen, path, address, arrived;

  function quiet() {}

  function safe(f) {
    return function () {
      try {
        var out = f.apply(this, arguments);
        if (out && out.catch) out.catch(quiet);
      } catch (e) { quiet(); }
    };
  }

  // tell says whether a listener took it, by answering true.
  function tell(what) {
    return listeners.filter(function (f) {
      try { return f(what) === true; } catch (e) { return false; }
    }).length > 0;
  }

  function lose(events, reason) { if (events.length) tell({ type: "dropped", events: events.map(plain), reason: reason }); }

  // once asks the gateway and never fails: status 0 is no answer, for whatever reason. keepalive: a post outlives the page. A text needs no preflight.
  async function once(method, url, body) {
    var out = { status: 0, wait: 0, answer: null };
    try {
      var stop = new AbortController();
      setTimeout(function () { stop.abort(); }, 2e4);
      var r = await w.fetch(gate + url, {
        method: method, body: body, credentials: "include", cache: "no-store", keepalive: method !== "GET", signal: stop.signal
      });
      out.status = r.status;
      out.wait = Math.min(1e3 * r.headers.get("Retry-After"), 5 * MINUTE) || 0;
      out.answer = await r.json();
    } catch (e) { quiet(); }
    return out;
  }

  function again(r) { return !r.status || r.status === 429 || r.status > 499; }

  function pause(r, n) { return Math.max(r.wait, 1e3 * Math.pow(2, n) * (0.5 + Math.random())); }

  function rest(r, n) {
    return new Promise(function (go) {
      setTimeout(go, pause(r, n));
      w.addEventListener("online", go, { once: true });
    });
  }

  // ask reads the choice; of several questions the last one's answer counts. While it is not known nothing is sent; the next sign of life asks again.
  async function ask() {
    var mine = ++asked;
    for (var n = 0; n <= TRIES; n++) {
      askedAt = Date.now();
      var began = askedAt, r = await once("GET", "/v1/choice?k=" + encodeURIComponent(key));
      if (mine !== asked) return;
      if (!again(r)) {
        // Not 200: the key or the origin is wrong, and stays so.
        var a = r.status === 200 && r.answer || { state: "none", purposes: {}, exempt: [] };
        skew = Date.parse(a.time) - began || 0;
        return settle(a);
      }
      if (n < TRIES) await rest(r, n);
    }
  }

  function granted() {
    return !!choice && !unheard && Object.keys(choice.purposes).some(function (p) { return choice.purposes[p] === true; });
  }

  function free(e) { return !!choice && !unheard && !choice.objected && choice.exempt.indexOf(e.type) >= 0; }

  function settle(a) {
    choice = a;
    var was = held, agreed = granted() && since;
    held = [];
    if (agreed) {
      lose(was.filter(function (e) { return e.at < since && !free(e); }), "before_consent");
      was = was.filter(function (e) { return e.at >= since || free(e); });
    }
    since = granted() ? 0 : Infinity;
    if (!granted()) {
      was = waiting.concat(was);
      waiting = [];
    }
    was.forEach(admit);
    if (agreed && !manual && !free({ type: "page_view" })) {
      arrived = false;
      view();
    }
    join();
    tell(Object.assign({ type: "choice" }, a));
  }

  // admit says where an event goes: out, into memory, or nowhere.
  function admit(e) {
    var into = !choice || deciding ? held : granted() || free(e) ? waiting : choice.ask ? held : null;
    if (!into) return lose([e], "refused");
    into.push(e);
    if (into.length > HELD) lose([into.shift()], "too_many");
    if (into === waiting) soon(1e3);
  }

  // An id tells copies of an event apart, and nothing else.
  function id() {
    var s = Date.now().toString(36) + "-";
    try {
      crypto.getRandomValues(new Uint8Array(12)).forEach(function (b) { s += (b + 256).toString(16).slice(1); });
    } catch (e) { s += String(Math.random()).slice(2) + String(Math.random()).slice(2); }
    return s;
  }

  function plain(e) { return { id: e.id, type: e.type, time: new Date(e.at + skew).toISOString(), fields: e.fields }; }

  function track(type, fields) {
    // As it is now, whatever the page does with it later.
    var text = JSON.stringify(fields || {});
    var e = { id: id(), type: String(type).slice(0, 99), at: Date.now(), fields: JSON.parse(text) };
    if (text.length > 1e4) lose([e], "too_large");
    else admit(e);
  }

  // view cuts texts at what the gateway takes; of the address it keeps what the policy says. A referrer of this site is no news.
  function view() {
    var fields = { url: location.href.slice(0, 2e3) }, query = new URLSearchParams(location.search);
    ["source", "medium", "campaign"].forEach(function (name) {
      var value = query.get("utm_" + name);
      if (value) fields[name] = value.slice(0, 200);
    });
    if (!arrived && d.referrer && d.referrer.split("/")[2] !== location.host) fields.referrer = d.referrer.slice(0, 2e3);
    arrived = true;
    path = location.pathname;
    address = path + location.search;
    track("page_view", fields);
  }

  // A single-page application shows another page when its address changes; replacing the query alone, as a search does while one types, is none.
  var moved = safe(function (replaced) {
    if (replaced ? location.pathname !== path : location.pathname + location.search !== address) view();
  });

  function hook(name, replaced) {
    var original = history[name];
    history[name] = function () {
      var out = original.apply(this, arguments);
      moved(replaced);
      return out;
    };
  }

  function pack(list) {
    var parts = [], size = 99;
    list.slice(0, EVENTS).every(function (e) {
      var text = JSON.stringify(plain(e));
      size += new TextEncoder().encode(text).length + 1;
      return size < BYTES && parts.push(text);
    });
    return { events: list.slice(0, parts.length), body: '{"k":' + JSON.stringify(key) + ',"batch":[' + parts + "]}" };
  }

  function without(list, events) { return list.filter(function (e) { return events.indexOf(e) < 0; }); }

  function soon(ms) { if (!timer) timer = setTimeout(safe(flush), ms); }

  async function flush() {
    clearTimeout(timer);
    timer = 0;
    // Whatever ends what holds it up flushes again.
    if (flying.length || deciding || !waiting.length || navigator.onLine === false) return;
    var batch = pack(waiting);
    flying = batch.events;
    var r = await once("POST", "/v1/events", batch.body);
    flying = [];
    if (again(r) && ++fails < TRIES) return soon(pause(r, fails));
    fails = 0;
    waiting = without(waiting, batch.events);
    // What a 202 refuses is refused for good.
    if (r.status === 202) tell({ type: "sent", events: batch.events.map(plain), answer: r.answer });
    else lose(batch.events, "unsent");
    // Withdrawn in another window, perhaps.
    if (r.status === 202 && !r.answer.accepted && Date.now() - askedAt > MINUTE) ask().catch(quiet);
    if (waiting.length) soon(0);
  }

  function beacon(url, body) {
    try { return navigator.sendBeacon(gate + url, body); } catch (e) { return false; }
  }

  // leave hands what is left to the browser, for the page may not come back. What is on its way has keepalive.
  function leave() {
    jobs.forEach(function (j) { if (!j.flying && !j.gone && j.body) j.gone = beacon(j.url, j.body); });
    for (var left = without(waiting, flying); left.length;) {
      var batch = pack(left);
      if (!beacon("/v1/events", batch.body)) return flush();
      left = without(left, batch.events);
      waiting = without(waiting, batch.events);
      tell({ type: "sent", events: batch.events.map(plain), beacon: true });
    }
  }

  // Choices and logins go one after the other, for their order matters; only the newest is tried again.
  function enqueue(job) {
    jobs.push(job);
    if (job.decides) deciding++;
    if (!working) work().catch(quiet);
  }

  async function work() {
    working = true;
    for (var n = 0, job; (job = jobs[0]);) {
      var r = { status: 0, answer: null };
      if (!job.gone) {
        job.flying = true;
        r = await (job.first ? once("GET", job.first) : once(job.method || "POST", job.url, job.body));
        job.flying = false;
        if (job.first && r.status === 200) {
          job.first = "";
          job.body = job.write(r.answer);
          continue;
        }
        if (again(r) && n < TRIES && jobs.length < 2) {
          await rest(r, n++);
          continue;
        }
      }
      n = 0;
      jobs.shift();
      tell({ type: job.name, status: r.status, answer: r.answer });
      if (!job.decides) continue;
      if (r.status < 200 || r.status > 299) unheard = unheard || !job.yes;
      else if (job.yes) unheard = false;
      if (!granted()) since = Date.now();
      if (!--deciding) ask().catch(quiet);
    }
    working = false;
  }

  function noticeURL(language) { return "/v1/notice?k=" + encodeURIComponent(key) + (language ? "&language=" + encodeURIComponent(language) : ""); }

  // consent records a choice. o.snapshot proves what was served. Without it, and without o.notice, the current notice is named as the text that the
  // site's own banner shows: proof registered_banner and no better, for it is read after the choice (C4). A refusal needs neither, and holds at once.
  function consent(purposes, o) {
    o = o || {};
    var yes = Object.keys(purposes).some(function (p) { return purposes[p]; });
    function write(served) {
      return JSON.stringify({
        k: key, purposes: purposes, snapshot: o.snapshot, notice: o.notice || served && served.notice, method: o.method || "tag",
        language: o.language, signals: o.signals, time: new Date().toISOString()
      });
    }
    var bare = yes && !o.snapshot && !o.notice;
    if (!yes) stop(Object.keys(purposes));
    enqueue({ name: "recorded", url: "/v1/consents", decides: true, yes: yes, first: bare && noticeURL(o.language), write: write, body: bare ? "" : write() });
  }

  // withdraw takes consents back and objects to what needs none; without names, all of both. It holds at once, whether or not the gateway answers.
  function withdraw(purposes) {
    stop(purposes);
    enqueue({ name: "recorded", url: "/v1/consents/withdraw", decides: true, body: JSON.stringify({ k: key, purposes: purposes, method: "tag" }) });
  }

  function stop(purposes) {
    lose(waiting.concat(held), "refused");
    waiting = [];
    held = [];
    if (choice) (purposes || Object.keys(choice.purposes)).forEach(function (p) { choice.purposes[p] = false; });
  }

  // identify hands on a login, or a logout, of a person who has agreed to something; till then it waits in memory, and the newest counts.
  function identify(claim) {
    login = claim || null;
    join();
  }

  function join() {
    if (login === undefined || deciding || !granted()) return;
    if (login) enqueue({ name: "identified", url: "/v1/identify", body: JSON.stringify({ k: key, claim: login }) });
    else enqueue({ name: "identified", url: "/v1/identify?k=" + encodeURIComponent(key), method: "DELETE" });
    login = undefined;
  }

  // notice is what a banner shows, with its snapshot; null where there is none.
  async function notice(language, f) {
    var r = await once("GET", noticeURL(language));
    f(r.status === 200 ? r.answer : null);
  }

  function on(f) {
    listeners.push(f);
    if (choice) safe(f)(Object.assign({ type: "choice" }, choice));
    if (reopen) choices();
  }

  // Whoever comes later is told then.
  function choices() { reopen = !tell({ type: "choices" }); }

  var calls = { track: track, consent: consent, withdraw: withdraw, identify: identify, on: on, choices: choices, notice: notice };

  var octroi = safe(function (call) {
    if (Object.keys(calls).indexOf(call) >= 0) return calls[call].apply(null, [].slice.call(arguments, 1));
  });

  function begin() {
    ask().catch(quiet);
    if (!manual) {
      view();
      safe(hook)("pushState");
      safe(hook)("replaceState", true);
      w.addEventListener("popstate", function () { moved(); });
    }
    w.addEventListener("pagehide", safe(leave));
    d.addEventListener("visibilitychange", safe(function () { return d.visibilityState === "hidden" ? leave() : choice || ask(); }));
    w.addEventListener("online", safe(function () { return choice ? flush() : ask(); }));
    // Back out of the browser's memory: another visit, and perhaps another choice.
    w.addEventListener("pageshow", safe(function (e) {
      if (!e.persisted) return;
      if (!manual) view();
      return ask();
    }));
  }

  safe(function () {
    var script = d.currentScript, prior = w.octroi;
    // An element that the page calls so, or a second copy.
    if (script.tagName !== "SCRIPT" || prior && prior.live) return;
    key = script.dataset.key;
    if (!key) return;
    gate = new URL(script.src).origin;
    manual = "manual" in script.dataset;
    octroi.live = true;
    w.octroi = octroi;
    if (d.prerendering) d.addEventListener("prerenderingchange", safe(begin), { once: true });
    else safe(begin)();
    [].forEach.call(prior && prior.q || [], function (call) { octroi.apply(null, call); });
  })();
})(window, document);
