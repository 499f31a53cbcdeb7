// Draws the flow that stands beside it in a table: what follows what, from left to right. Without this script the table is there all the same.
(function () {
  "use strict";
  var place = document.getElementById("sankey"), source = document.getElementById("flow");
  if (!place || !source || !window.d3 || !d3.sankey) return;
  var flow = JSON.parse(source.textContent), svg = "http://www.w3.org/2000/svg";

  function make(name, attributes, parent) {
    var e = document.createElementNS(svg, name);
    for (var key in attributes) e.setAttribute(key, attributes[key]);
    if (parent) parent.appendChild(e);
    return e;
  }

  function draw() {
    var width = Math.max(320, place.clientWidth), height = Math.max(260, 34 * flow.nodes.length / 2);
    var graph = d3.sankey().nodeId(function (n) { return n.id; }).nodeWidth(12).nodePadding(10).nodeSort(null).extent([[1, 4], [width - 1, height - 4]])({
      nodes: flow.nodes.map(function (n) { return Object.assign({}, n); }),
      links: flow.links.map(function (l) { return Object.assign({}, l); })
    });
    var picture = make("svg", {viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img", "aria-label": flow.label});
    graph.links.forEach(function (l) {
      var path = make("path", {d: d3.sankeyLinkHorizontal()(l), "class": "link " + l.source.kind, "stroke-width": Math.max(1, l.width)}, picture);
      make("title", {}, path).textContent = l.source.label + " → " + l.target.label + ": " + l.text;
    });
    graph.nodes.forEach(function (n) {
      var left = n.x0 < width / 2, box = make("rect", {x: n.x0, y: n.y0, width: n.x1 - n.x0, height: Math.max(1, n.y1 - n.y0), "class": "node " + n.kind}, picture);
      make("title", {}, box).textContent = n.label;
      make("text", {x: left ? n.x1 + 6 : n.x0 - 6, y: (n.y0 + n.y1) / 2, dy: "0.35em", "text-anchor": left ? "start" : "end"}, picture).textContent = n.label;
    });
    place.replaceChildren(picture);
  }

  draw();
  document.getElementById("flow-table").open = false; // it is long, and the picture is there
  window.addEventListener("resize", draw);
})();
