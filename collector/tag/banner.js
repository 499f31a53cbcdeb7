// Octroi's banner, for sites that have none of their own. It needs tag.js on the page, in any order, and works through it alone.
//
//   - To refuse is as easy as to agree: one click each, buttons of one size and colour. Nothing is ticked beforehand (CJEU C-673/17, Planet49).
//   - It shows the text that the gateway serves, and hands back the proof of what it served (C4). No innerHTML, no inline style, no storage.
//   - At first it is no modal: it takes no focus, hides no page, and Escape chooses nothing. The dialog of single choices is one, by <dialog>.
//   - octroi("choices") and whatever has [data-octroi-choices] open it again; a page with no such link gets a small button (GDPR Art. 7(3)).
//   - It does not show in a frame of another origin, which could have the person click on what it does not see.
//
// Custom properties: --octroi-background, --octroi-color, --octroi-border, --octroi-button, --octroi-button-color, --octroi-radius, --octroi-font,
// --octroi-width, --octroi-z-index. Lines like these are not served (tag.go).
(function (w, d) {
  "use strict";
  var words = {
    en: {
      title: "Your choices", intro: "With your agreement we would use data about your visit for:",
      free: "You are free to refuse: nothing else changes. You can change your mind at any time, through “My choices”.",
      refuse: "Refuse all", accept: "Accept all", choose: "Choose", save: "Save my choices", close: "Close without changing",
      read: "Full text", notice: "Privacy notice", choices: "My choices",
      count: "Some visits are counted without your agreement: anonymously, with no cookie. You can object, without giving a reason.",
      object: "Object to the count", objected: "You have objected to the anonymous count of visits: nothing is sent for it from this browser.",
      opened: "Privacy choices are open at the top of the page.", done: "Your choice has been taken into account.",
      changed: "The text has changed meanwhile. Please choose again.", failed: "The choices cannot be read at the moment. You can still refuse all."
    },
    fr: {
      title: "Vos choix", intro: "Avec votre accord, nous utiliserions des données sur votre visite pour :",
      free: "Vous êtes libre de refuser : rien d’autre ne change. Vous pouvez changer d’avis à tout moment, par « Mes choix ».",
      refuse: "Tout refuser", accept: "Tout accepter", choose: "Choisir", save: "Enregistrer", close: "Fermer sans rien changer",
      read: "Texte complet", notice: "Informations sur vos données", choices: "Mes choix",
      count: "Certaines visites sont comptées sans votre accord : de façon anonyme, sans cookie. Vous pouvez vous y opposer, sans donner de motif.",
      object: "S’opposer au comptage", objected: "Vous vous êtes opposé au comptage anonyme des visites : rien n’est envoyé pour lui depuis ce navigateur.",
      opened: "Les choix sur vos données sont ouverts en haut de la page.", done: "Votre choix est pris en compte.",
      changed: "Le texte a changé entre-temps. Choisissez à nouveau, s’il vous plaît.",
      failed: "Les choix ne peuvent pas être lus en ce moment. Vous pouvez toujours tout refuser."
    }
  };
  var css = ":host{all:initial}*{box-sizing:border-box}" +
    "dialog,.reopen{--b:var(--octroi-background,#fff);--c:var(--octroi-color,#1b1b1f);--l:var(--octroi-border,#74747c);" +
    "--a:var(--octroi-button,#1f3a5f);--t:var(--octroi-button-color,#fff);--r:var(--octroi-radius,8px);" +
    "font:16px/1.5 var(--octroi-font,system-ui,sans-serif);color:var(--c);background:var(--b);border:1px solid var(--l);border-radius:var(--r);" +
    "z-index:var(--octroi-z-index,2147483000);color-scheme:light dark}" +
    "dialog{position:fixed;inset:auto 0 16px;margin:0 auto;padding:0;width:calc(100% - 32px);max-width:var(--octroi-width,720px);" +
    "max-height:min(60vh,520px);flex-direction:column;box-shadow:0 4px 24px rgba(0,0,0,.3)}" +
    "dialog[open]{display:flex}dialog.all{inset:0;margin:auto;height:fit-content;max-height:calc(100% - 32px)}dialog::backdrop{background:rgba(0,0,0,.5)}" +
    ".text{overflow:auto;padding:16px 20px 4px}h2{font-size:1.25em;line-height:1.3;margin:0 0 8px}p{margin:0 0 8px}ul{list-style:none;margin:0 0 8px;padding:0}" +
    "li{padding:2px 0}label{display:flex;gap:10px;align-items:center;min-height:32px;font-weight:600}input{width:20px;height:20px;margin:0;accent-color:var(--a)}" +
    "summary{cursor:pointer;min-height:24px;padding:4px 0}li>details>p,li>details>div{padding:0 0 0 18px;font-size:.9em}" +
    ".buttons{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:8px;padding:12px 20px 16px;border-top:1px solid var(--l)}" +
    "button{font:inherit;font-weight:600;min-height:44px;padding:8px 12px;cursor:pointer;color:var(--t);background:var(--a);border:2px solid var(--a);" +
    "border-radius:var(--r)}a{color:inherit}:focus-visible{outline:3px solid var(--c);outline-offset:2px}h2:focus{outline:0}" +
    ".buttons .line,.buttons .plain{grid-column:1/-1}.buttons .plain{color:var(--c);background:none;border-color:transparent;text-decoration:underline;font-weight:400}" +
    ".reopen{position:fixed;left:12px;bottom:12px;min-height:36px;padding:4px 12px;font-size:14px;font-weight:400}" +
    ".status{position:fixed;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);margin:0}" +
    "@media(max-width:480px){.buttons{grid-template-columns:1fr 1fr;padding:12px}.buttons .wide{grid-column:1/-1}.text{padding:12px 14px 4px}" +
    "dialog{width:calc(100% - 16px);bottom:8px}}" +
    "@media(prefers-color-scheme:dark){dialog,.reopen{--b:var(--octroi-background,#1e1e22);--c:var(--octroi-color,#f2f2f5);--l:var(--octroi-border,#8d8d96);" +
    "--a:var(--octroi-button,#a9c7ef);--t:var(--octroi-button-color,#10141a)}}" +
    "@media(prefers-reduced-motion:no-preference){dialog[open]{animation:rise .2s ease-out}@keyframes rise{from{transform:translateY(16px);opacity:0}}}" +
    "@media print{dialog,.reopen{display:none!important}}";
  var host, dialog, status, button, choice = {}, served, sent, t = words.en, asked, inDetail;

  function safe(f) {
    return function () {
      try { return f.apply(this, arguments); } catch (e) { /* the page goes on */ }
    };
  }

  function octroi() { return w.octroi.apply(w, arguments); }

  function make(name, properties, children) {
    var e = d.createElement(name);
    Object.keys(properties || {}).forEach(function (p) {
      if (p in e) e[p] = properties[p];
      else e.setAttribute(p, properties[p]);
    });
    (children || []).forEach(function (c) { if (c) e.append(c); });
    return e;
  }

  // foreign says whether the page is a frame of another origin's.
  function foreign() {
    try { return !w.top.location.href; } catch (e) { return true; }
  }

  // attach comes first in the page, so that it comes first to a keyboard and a screen reader, wherever it is seen.
  function attach() {
    if (!host) {
      host = make("div", { "data-octroi-banner": "" });
      var root = host.attachShadow({ mode: "open" });
      try {
        var sheet = new CSSStyleSheet();
        sheet.replaceSync(css);
        root.adoptedStyleSheets = [sheet];
      } catch (e) { root.append(make("style", { textContent: css })); }
      status = make("p", { className: "status", role: "status" });
      button = make("button", { type: "button", className: "reopen", hidden: true, onclick: safe(reopen) });
      dialog = make("dialog", { role: "dialog", "aria-labelledby": "title", "aria-describedby": "intro" });
      dialog.addEventListener("close", safe(closed));
      root.append(status, dialog, button);
    }
    var other = d.querySelector("[data-octroi-banner]");
    if (other && other !== host) throw new Error("a second copy");
    if (!host.isConnected) d.body.prepend(host);
  }

  function say(text) { setTimeout(function () { status.textContent = text; }, 100); }

  function paragraphs(text) {
    return make("div", {}, text.split(/\n\s*\n/).map(function (p) { return make("p", { textContent: p }); }));
  }

  // item is a purpose: its name over its text, as served; with a box to tick where one chooses.
  function item(p, detail) {
    var box = detail && make("input", { type: "checkbox", value: p.id, checked: (choice.purposes || {})[p.id] === true });
    return make("li", {}, [
      box && make("label", {}, [box, make("span", { textContent: p.title })]),
      make("details", {}, [make("summary", { textContent: box ? t.read : p.title, ariaLabel: box ? t.read + ": " + p.title : null }), paragraphs(p.text)])
    ]);
  }

  function press(text, name, act) { return make("button", { type: "button", className: name, textContent: text, onclick: safe(act) }); }

  // fill makes the content anew: of the first question, or of the choices one by one.
  function fill(detail, message) {
    var list = served ? served.purposes : [], counts = detail && (choice.exempt || []).length > 0, buttons = [];
    if (served || !counts) buttons.push(press(t.refuse, "", function () { choose(false); }));
    if (served) buttons.push(press(t.accept, "", function () { choose(true); }));
    if (detail && served) buttons.push(press(t.save, "wide", function () { choose(); }));
    if (counts && !choice.objected) buttons.push(press(t.object, "wide line", object));
    if (detail) buttons.push(press(t.close, "wide plain", function () { dialog.close(); }));
    else buttons.push(press(t.choose, "wide choose", function () { open(true); }));
    var url = served && /^https?:/.test(served.notice.url) && served.notice.url;
    dialog.replaceChildren(
      make("div", { className: "text", tabIndex: 0 }, [
        make("h2", { id: "title", textContent: t.title, tabIndex: -1 }),
        message && make("p", { textContent: message, role: "alert" }),
        make("p", { id: "intro", textContent: served ? t.intro : counts ? count() : t.failed }),
        make("ul", { lang: served ? served.notice.language : "" }, list.map(function (p) { return item(p, detail); })),
        served && make("p", { textContent: t.free }),
        served && counts && make("p", { textContent: count() }),
        url && make("p", {}, [make("a", { href: url, textContent: t.notice, target: "_blank", rel: "noopener" })])
      ]),
      make("div", { className: "buttons" }, buttons));
  }

  // speak sets the language: that of the text, so that the frame has the same where it can.
  function speak(language) {
    t = /^fr\b/i.test(language) ? words.fr : words.en;
    dialog.lang = button.lang = status.lang = t === words.fr ? "fr" : "en";
  }

  function open(detail, message) {
    inDetail = false;
    if (dialog.open) dialog.close();
    attach();
    speak(served ? served.notice.language : wished());
    dialog.className = detail ? "all" : "";
    dialog.setAttribute("aria-modal", String(!!detail));
    button.hidden = true;
    fill(detail, message);
    if (detail) {
      dialog.showModal();
      dialog.querySelector("h2").focus();
    } else {
      dialog.open = true; // show() would take the focus
      say(t.opened);
    }
    inDetail = detail;
  }

  // closed without a choice, by Escape or its button: back to the question, if there is one.
  function closed() {
    if (!inDetail || dialog.open) return;
    inDetail = false;
    if (asked) {
      open(false);
      dialog.querySelector(".choose").focus();
    } else leaveButton();
  }

  function leaveButton() {
    button.textContent = t.choices;
    button.hidden = !!d.querySelector("[data-octroi-choices]");
  }

  function count() { return choice.objected ? t.objected : t.count; }

  // object leaves the consents as they are (GDPR Art. 21(1)).
  function object() {
    end();
    octroi("withdraw", choice.exempt_purposes);
  }

  function end() {
    asked = inDetail = false;
    dialog.close();
    leaveButton();
    say(t.done);
  }

  // choose takes all, nothing, or what is ticked.
  function choose(all) {
    var purposes = {};
    if (served) served.purposes.forEach(function (p) { purposes[p.id] = all === true; });
    if (all === undefined) dialog.querySelectorAll("input").forEach(function (box) { purposes[box.value] = box.checked; });
    end();
    if (served) record(purposes);
    else octroi("withdraw");
  }

  function record(purposes) {
    sent = { purposes: purposes, text: served.notice.text_sha256 };
    octroi("consent", purposes, { snapshot: served.snapshot, method: "banner", language: served.notice.language });
  }

  function wished() { return d.documentElement.lang || navigator.language || "en"; }

  function read(then) {
    octroi("notice", wished(), safe(function (n) {
      served = n;
      ready(then);
    }));
  }

  function ready(then) {
    if (d.body) then();
    else d.addEventListener("DOMContentLoaded", safe(then));
  }

  // stale: the proof is good for an hour. The same text, served again, is what the person has answered; another is asked anew.
  function stale() {
    var was = sent;
    sent = null;
    if (was) read(function () {
      if (served && served.notice.text_sha256 === was.text) record(was.purposes);
      else if (served) open(true, t.changed);
      sent = null;
    });
  }

  function reopen() {
    if (foreign()) return;
    read(function () {
      attach();
      open(true);
    });
  }

  function listen(what) {
    if (what.type === "choices") {
      reopen();
      return true;
    }
    if (what.type === "recorded" && what.status === 409) stale();
    if (what.type !== "choice") return;
    choice = what;
    if (asked !== undefined || foreign()) return;
    asked = what.ask;
    if (asked) {
      read(function () {
        if (!served) return;
        attach();
        open(false);
      });
    } else if (what.state !== "none" || what.exempt.length) ready(function () {
      attach();
      speak(wished());
      leaveButton();
    });
  }

  safe(function () {
    w.octroi = w.octroi || function () { (w.octroi.q = w.octroi.q || []).push(arguments); };
    octroi("on", safe(listen));
    d.addEventListener("click", safe(function (e) {
      if (!e.target.closest("[data-octroi-choices]")) return;
      e.preventDefault();
      octroi("choices");
    }));
  })();
})(window, document);
