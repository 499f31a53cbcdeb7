// What the shop's pages tell Octroi. The calls wait in the page until the tag is there, and in the tag until there is a choice: the shop asks about
// neither. Everything here may fail, and the shop still works.
(function () {
  "use strict";
  var page = document.body.dataset, known = false;

  function tell(type, fields) {
    octroi("track", type, fields);
    document.dispatchEvent(new CustomEvent("shop:track", { detail: { type: type, fields: fields || {} } }));
  }

  JSON.parse(page.events || "[]").forEach(function (e) { tell(e.type, e.fields); });

  // Who logs in is told to the gateway only where the browser's person agreed to be joined to the card; that may also be later, on this page.
  octroi("on", function (what) {
    if (what.type !== "choice") return;
    var agreed = what.purposes && what.purposes.linking === true;
    if (page.claim && agreed && !known && (page.identify === "login" || !what.linked)) {
      known = true;
      octroi("identify", page.claim);
    }
    if (!page.claim && what.linked && !known) { // logged out, or the login has ended
      known = true;
      octroi("identify", null);
    }
  });
})();
