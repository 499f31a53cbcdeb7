// The demo's panel: for each event of this page, what the tag said of it, and then what the shop's showman finds of it at the recipients. A site has
// no such thing. It listens to the tag and to the shop's own calls, and changes nothing.
(function () {
  "use strict";
  var panel = document.getElementById("panel"), words = JSON.parse(panel.dataset.words);
  var state = document.getElementById("panel-state"), list = document.getElementById("panel-entries"), bar = panel.querySelector(".panel-bar");
  var MOST = 30, KEY = "octroi-panel", TRIES = 25;
  var entries = [], choice = null;

  function say(key, value) {
    var text = words[key] === undefined ? key : words[key];
    return value === undefined ? text : text.replace("%s", value);
  }

  function make(name, attributes, children) {
    var e = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (a) { e.setAttribute(a, attributes[a]); });
    (children || []).forEach(function (c) { if (c) e.append(c); });
    return e;
  }

  // The list outlives a page only once something was agreed to: before a choice nothing is written (ePrivacy Art. 5(3)), nor after a refusal.
  function mayKeep() { return choice && (choice.state === "given" || choice.state === "withdrawn"); }

  function keep() {
    try {
      if (mayKeep() && entries.length) sessionStorage.setItem(KEY, JSON.stringify(entries.slice(0, MOST)));
    } catch (e) { /* blocked: the list ends with the page */ }
  }

  function recall() {
    try {
      var before = JSON.parse(sessionStorage.getItem(KEY) || "[]");
      before.forEach(function (e) { if (e.status === "held") Object.assign(e, { status: "dropped", reason: "gone" }); });
      entries = entries.concat(before).slice(0, MOST);
    } catch (e) { /* blocked */ }
  }

  function add(e) {
    entries.unshift(Object.assign({ status: "held", at: Date.now(), tries: 0, rows: [] }, e));
    entries.length = Math.min(entries.length, MOST);
    draw();
  }

  // of is the entry of an event of the tag's: by id, or the oldest of its type that has none yet.
  function of(event) {
    var e = entries.find(function (x) { return x.id === event.id; });
    if (!e) e = entries.filter(function (x) { return !x.id && !x.order && x.type === event.type; }).pop();
    if (!e) {
      add({ type: event.type });
      e = entries[0];
    }
    e.id = event.id;
    e.fields = event.fields;
    e.time = event.time;
    return e;
  }

  var told = {
    choice: function (what) {
      var first = choice === null;
      choice = what;
      // Who comes back from the page of rights has chosen before, also where the gateway knows of it no more: the list shows what has left.
      if (first && (mayKeep() || new URLSearchParams(location.search).has("back"))) recall();
    },
    sent: function (what) {
      var refused = {};
      (what.answer && what.answer.refused || []).forEach(function (r) { refused[r.id] = r; });
      what.events.forEach(function (event) {
        var e = of(event), r = refused[event.id];
        e.status = what.beacon ? "handed" : r ? "refused" : "accepted";
        e.reason = r && r.reason;
        e.purpose = r && r.purpose;
      });
    },
    dropped: function (what) {
      what.events.forEach(function (event) {
        var e = of(event);
        e.status = "dropped";
        e.reason = what.reason;
      });
    }
  };

  // drawState is one sentence on what was chosen.
  function drawState() {
    var text, kind = "none";
    if (!choice) text = say(window.octroi && octroi.live ? "waiting_choice" : "no_tag");
    else if (choice.state === "given") {
      var yes = [], no = [];
      Object.keys(choice.purposes).forEach(function (p) { (choice.purposes[p] ? yes : no).push(say("purpose_" + p)); });
      text = say("given", yes.join(", ")) + (no.length ? say("given_not", no.join(", ")) : "");
      kind = "given";
    } else if (choice.state === "none") text = say("waiting_choice");
    else {
      text = say(choice.state === "withdrawn" ? "withdrawn" : "refused_all");
      kind = "refused";
    }
    state.className = "state is-" + kind;
    var lines = [make("p", {}, [text])];
    if (choice && choice.linked) lines.push(make("p", {}, [say("linked")]));
    if (entries.length && mayKeep()) lines.push(forget());
    state.replaceChildren.apply(state, lines);
    bar.querySelector(".panel-bar-state").textContent = say("bar_" + kind);
  }

  function forget() {
    var b = make("button", { type: "button", "class": "forget" }, [say("forget")]);
    b.addEventListener("click", function () {
      entries = [];
      try { sessionStorage.removeItem(KEY); } catch (e) { /* blocked */ }
      draw();
    });
    return b;
  }

  // statusOf tells what waits for a choice from what waits for the next post.
  function statusOf(e) { return e.status === "held" && choice && choice.state === "given" ? "going" : e.status; }

  function why(e) {
    if (e.rows.length) return "";
    if (e.status === "held") return say("why_" + statusOf(e));
    if (e.status === "dropped") return say("why_" + e.reason);
    if (e.status === "refused") {
      return e.reason === "no_consent" ? say("why_no_consent", say("purpose_" + e.purpose)) : e.reason === "duplicate" ? say("why_duplicate") : say("why_other", e.reason);
    }
    return say(e.tries < TRIES ? "why_sealing" : "why_nowhere");
  }

  function written(v) {
    if (v === undefined || v === null) return "";
    if (typeof v === "object" && v.amount) return v.amount + " " + (v.currency || "");
    return typeof v === "object" ? JSON.stringify(v) : String(v);
  }

  // clock is a time as rows have it, in UTC, to be read.
  function clock(text) { return text ? text.slice(0, 23).replace("T", " ").replace("Z", "") : ""; }

  // keptOf is what a row holds of a field.
  function keptOf(row, name) {
    if (name === "value" && row.value_minor !== undefined) return (row.value_minor / 100).toFixed(2) + " " + row.currency;
    if (["campaign", "source", "medium"].indexOf(name) >= 0) return row[name];
    return row.properties[name];
  }

  function line(name, sent, kept, kind) {
    return make("tr", {}, [
      make("th", { scope: "row" }, [name]), make("td", {}, [sent]), make("td", kept ? kind ? { "class": kind } : {} : { "class": "gone" }, [kept || say("dropped")])
    ]);
  }

  // drawRow sets what was sent beside what was kept of it.
  function drawRow(e, at) {
    var row = at.row, fields = e.fields || {}, lines = [];
    Object.keys(fields).forEach(function (name) { lines.push(line(name, written(fields[name]), keptOf(row, name))); });
    Object.keys(row.properties).forEach(function (name) { if (!(name in fields)) lines.push(line(name, say("connection"), row.properties[name])); });
    lines.push(line(say("col_event_id"), e.id || e.order || "", row.event_id));
    lines.push(line(say("col_time"), clock(e.time), clock(row.time)));
    lines.push(line(say("col_received_at"), "", clock(row.received_at)));
    lines.push(line(say("col_device"), row.device ? say("cookie_secret") : "", row.device || say("nobody"), "whose"));
    lines.push(line(say("col_person"), row.person ? e.subject || say("login") : "", row.person || say("nobody"), "whose"));
    lines.push(line(say("col_grants"), "", row.grants.map(function (g) { return say("purpose_" + g.purpose) + " (" + say("basis_" + g.basis) + ")"; }).join(", ")));
    return make("table", {}, [
      make("thead", {}, [make("tr", {}, [make("th", { scope: "col" }, [say("what")]), make("th", { scope: "col" }, [say("sent")]), make("th", { scope: "col" }, [say("kept")])])]),
      make("tbody", {}, lines)
    ]);
  }

  function drawAt(e, at, open) {
    var d = make("details", { "class": "at" + (at.left ? " is-left" : "") }, [
      make("summary", {}, [say("loaded_at", at.destination)]),
      drawRow(e, at),
      make("p", { "class": "object" }, [say("object", at.object)]),
      make("details", {}, [make("summary", {}, [say("row")]), make("pre", {}, [JSON.stringify(at.row, null, 1)])])
    ]);
    d.open = open && !at.left;
    d.dataset.key = e.at + at.destination;
    return at.left ? [d, make("p", { "class": "left" }, [say("left", at.destination)])] : [d];
  }

  function drawEntry(e, i) {
    var reason = why(e), opened = {}, stamp = new Date(e.time || e.at);
    list.querySelectorAll("details.at").forEach(function (d) { opened[d.dataset.key] = d.open; });
    var item = make("li", { "class": "entry is-" + e.status }, [
      make("div", { "class": "entry-head" }, [
        make("b", {}, [say("type_" + (e.order ? "order" : e.type))]), make("time", { datetime: stamp.toISOString() }, [stamp.toLocaleTimeString(document.documentElement.lang)]),
        make("span", { "class": "badge" }, [say("status_" + statusOf(e))])
      ]),
      reason && make("p", { "class": "why" }, [reason])
    ]);
    e.rows.forEach(function (at) {
      var was = opened[e.at + at.destination];
      drawAt(e, at, was === undefined ? i === newest() : was).forEach(function (x) { item.append(x); });
    });
    return item;
  }

  function newest() { return entries.findIndex(function (e) { return e.rows.length > 0; }); }

  var drawn = "";

  // draw makes the list anew where something has changed: what somebody is reading stays open.
  function draw() {
    drawState();
    var now = JSON.stringify([entries.map(function (e) { return [e.at, e.id, e.status, e.reason, e.rows.map(function (r) { return [r.event_id, r.left]; }), e.tries >= TRIES]; }), choice]);
    if (now === drawn) return;
    drawn = now;
    list.replaceChildren.apply(list, entries.map(drawEntry));
    keep();
  }

  async function post(path, body) {
    var r = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!r.ok) throw new Error(r.status);
    return r.json();
  }

  // look asks what became of the events that are on their way, and whether the rows found are still there.
  async function look() {
    for (var e of entries) {
      if (e.rows.length || e.tries >= TRIES || ["accepted", "handed", "told"].indexOf(e.status) < 0) continue;
      e.tries++;
      var a = await post("/panel/trace", e.order ? { order: e.order } : { id: e.id });
      if (a.state !== "loaded") continue;
      e.rows = a.rows;
      if (e.status === "handed") e.status = "accepted";
    }
    var rows = entries.flatMap(function (e) { return e.rows.filter(function (r) { return !r.left; }); });
    if (rows.length) {
      var now = await post("/panel/rows", { rows: rows.map(function (r) { return { destination: r.destination, batch: r.batch, event_id: r.event_id }; }) });
      now.rows.forEach(function (r, i) {
        rows[i].left = !r.row;
        if (r.row) rows[i].row = r.row; // a pseudonym may have been taken off it
      });
    }
    draw();
  }

  function again() {
    setTimeout(function () {
      if (document.hidden) return again();
      look().catch(function () { /* the shop is being stopped */ }).then(again);
    }, 2000);
  }

  bar.addEventListener("click", function () {
    var open = document.getElementById("panel-in").classList.toggle("is-open");
    bar.setAttribute("aria-expanded", open);
  });
  document.addEventListener("shop:track", function (e) { add(e.detail); });
  window.addEventListener("load", draw);
  add({ type: "page_view", fields: { url: location.href } });
  if (panel.dataset.order) {
    var o = JSON.parse(panel.dataset.order);
    add({ order: o.id, type: "purchase", status: "told", fields: o.fields, subject: o.subject, time: o.time });
  }
  octroi("on", function (what) {
    if (told[what.type]) told[what.type](what);
    draw();
    keep();
  });
  draw();
  again();
})();
