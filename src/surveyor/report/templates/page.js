"use strict";
(() => {
  const svgns = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
  const card = document.getElementById("card");
  const say = document.getElementById("say");
  const make = (name, attributes, parent) => {
    const node = document.createElementNS(svgns, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  };

  // ---- one structure: atoms as spheres, far ones first ------------------------------------------
  const SOLID = 1.2, PARTIAL = 1.4; // of the sum of the covalent radii
  const view = { tilt: 0.35, turn: 0.45 };

  function rotated(points, { tilt, turn }) {
    const [cx, sx, cy, sy] = [Math.cos(tilt), Math.sin(tilt), Math.cos(turn), Math.sin(turn)];
    return points.map(([x, y, z]) => {
      const [u, w] = [cy * x + sy * z, cy * z - sy * x];
      return [u, cx * y - sx * w, sx * y + cx * w];
    });
  }

  const triples = (flat) => Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3).map((v) => v / 100));

  function bonds(points, radii) {
    const found = [];
    for (let i = 0; i < points.length; i++)
      for (let j = i + 1; j < points.length; j++) {
        const length = Math.hypot(...points[i].map((v, k) => v - points[j][k]));
        const share = length / (radii[i] + radii[j]);
        if (share < PARTIAL) found.push([i, j, share > SOLID]);
      }
    return found;
  }

  function draw(structure) {
    const width = 250, height = 160;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `drawing of ${structure.f}` });
    const shades = make("defs", {}, svg);
    for (const number of new Set(structure.z)) {
      const shade = make("radialGradient", { id: `z${number}`, cx: "35%", cy: "32%", r: "75%" }, shades);
      make("stop", { offset: "0", "stop-color": "#fff", "stop-opacity": ".95" }, shade);
      make("stop", { offset: ".35", "stop-color": data.elements[number].c }, shade);
      make("stop", { offset: "1", "stop-color": `color-mix(in srgb, ${data.elements[number].c} 62%, #000)` }, shade);
    }
    const layer = make("g", {}, svg);
    const still = triples(structure.p);
    const radii = structure.z.map((number) => data.elements[number].r);
    const linked = bonds(still, radii);
    const cell = structure.cell ? triples(structure.cell) : null;
    const ball = (i) => 0.52 * Math.max(radii[i], 0.42);
    let scale = Infinity;
    const paint = () => {
      const points = rotated(still, view);
      const edges = cell ? rotated(corners(cell), view) : [];
      // Turning shrinks the drawing where it must, and never lets it breathe.
      const wide = Math.max(1, ...points.map((p, i) => Math.abs(p[0]) + radii[i]), ...edges.map((p) => Math.abs(p[0])));
      const tall = Math.max(0.8, ...points.map((p, i) => Math.abs(p[1]) + 0.6 * radii[i] + 0.1), ...edges.map((p) => Math.abs(p[1])));
      scale = Math.min(scale, (width / 2 - 4) / wide, (height / 2 - 4) / tall);
      const at = (p) => [width / 2 + scale * p[0], height / 2 - scale * p[1]];
      layer.replaceChildren();
      if (cell) {
        const edge = edges.map(at);
        for (let i = 0; i < 8; i++)
          for (const bit of [1, 2, 4])
            if (!(i & bit)) make("line", { class: "cell", x1: edge[i][0], y1: edge[i][1], x2: edge[i | bit][0], y2: edge[i | bit][1] }, layer);
      }
      const parts = points.map((p, i) => [p[2], () => {
        const [cx, cy] = at(p);
        make("circle", { class: "atom", cx, cy, r: scale * ball(i), fill: `url(#z${structure.z[i]})` }, layer);
      }]);
      for (const [i, j, partial] of linked)
        parts.push([(points[i][2] + points[j][2]) / 2 - 0.01, () => {
          // From surface to surface: a bond must not shine through its atoms.
          const length = Math.hypot(...points[i].map((v, k) => v - points[j][k])) || 1;
          const towards = (a, b, by) => points[a].map((v, k) => v + ((points[b][k] - v) * 0.8 * ball(by)) / length);
          const [[x1, y1], [x2, y2]] = [at(towards(i, j, i)), at(towards(j, i, j))];
          make("line", { class: partial ? "bond partial" : "bond", x1, y1, x2, y2, "stroke-width": (partial ? 0.1 : 0.17) * scale }, layer);
        }]);
      parts.sort((a, b) => a[0] - b[0]).forEach(([, part]) => part());
    };
    paint();
    let from = null;
    svg.addEventListener("pointerdown", (e) => { from = [e.clientX, e.clientY]; svg.setPointerCapture(e.pointerId); });
    svg.addEventListener("pointerup", () => { from = null; });
    svg.addEventListener("pointermove", (e) => {
      if (!from) return;
      view.turn += (e.clientX - from[0]) / 90;
      view.tilt += (e.clientY - from[1]) / 90;
      from = [e.clientX, e.clientY];
      paint();
    });
    return svg;
  }

  function corners([origin, a, b, c]) {
    return [0, 1, 2, 3, 4, 5, 6, 7].map((i) => origin.map((v, k) => v + (i & 1 ? a[k] : 0) + (i & 2 ? b[k] : 0) + (i & 4 ? c[k] : 0)));
  }

  // ---- the card: what is under the pointer, the focus or the finger -----------------------------
  let shown = null, pinned = false, anchor = null;

  function element(name, text, parent) {
    const node = document.createElement(name);
    node.textContent = text;
    parent.append(node);
    return node;
  }

  function formula(text, parent) {
    const node = element("strong", "", parent);
    for (const part of text.split(/(\d+)/)) if (part) element(/\d/.test(part) ? "sub" : "span", part, node);
  }

  function show(number, node, pin = false) {
    if (pinned && !pin) return;
    const structure = data.structures[number];
    if (!structure) return;
    if (shown !== number) {
      shown = number;
      card.replaceChildren();
      element("code", structure.id.slice(0, 12), card);
      formula(structure.f, card);
      if (structure.z) card.append(draw(structure));
      else element("p", "too large to be drawn here", card).className = "hint";
      const list = element("dl", "", card);
      for (const [label, value] of structure.t) { element("dt", label, list); element("dd", value, list); }
      const hint = element("p", "", card);
      hint.className = "hint";
      say.textContent = `${structure.f}: ${structure.t.map((fact) => fact.join(" ")).join(", ")}`;
    }
    pinned = pin;
    card.classList.toggle("pinned", pin);
    card.lastChild.textContent = pin ? "drag to turn, Esc to close" : "click to keep and turn";
    card.hidden = false;
    anchor = node;
    settle();
  }

  function settle() {
    const box = anchor.getBoundingClientRect();
    const { offsetWidth: w, offsetHeight: h } = card;
    const right = box.right + 14 + w < innerWidth;
    card.style.left = `${Math.max(6, right ? box.right + 14 : box.left - 14 - w)}px`;
    card.style.top = `${Math.min(Math.max(6, (box.top + box.bottom) / 2 - h / 2), Math.max(6, innerHeight - h - 6))}px`;
  }

  function hide(force = false) {
    if (pinned && !force) return;
    pinned = false;
    shown = null;
    card.hidden = true;
    document.querySelectorAll(".ring").forEach((ring) => ring.setAttribute("visibility", "hidden"));
  }

  const holder = (target) => (target instanceof Element ? target.closest("[data-s]") : null);
  const beside = (node) => (node.tagName === "TR" ? node.querySelector(".see") || node : node);
  document.addEventListener("pointerover", (e) => {
    const node = holder(e.target);
    if (node && !node.closest("#map")) show(+node.dataset.s, beside(node));
  });
  document.addEventListener("pointerout", (e) => { if (holder(e.target) && !holder(e.relatedTarget)) hide(); });
  document.addEventListener("focusin", (e) => { const node = holder(e.target); if (node) { hide(true); show(+node.dataset.s, beside(e.target)); } });
  document.addEventListener("focusout", (e) => { if (holder(e.target)) hide(); });
  document.addEventListener("keydown", (e) => { if (e.key === "Escape") hide(true); });
  document.addEventListener("click", (e) => {
    if (card.contains(e.target)) return;
    const node = holder(e.target);
    if (node && !node.closest("#map")) show(+node.dataset.s, beside(node), true);
    else if (!node && !e.target.closest("#map")) hide(true);
  });
  // What has the focus keeps its card: moving the focus scrolls, too.
  const focused = () => document.activeElement.id === "map" || holder(document.activeElement);
  addEventListener("scroll", () => { if (!card.hidden && !pinned) focused() ? settle() : hide(); }, { passive: true, capture: true });

  // ---- the map: the nearest mark answers, arrow keys walk from mark to mark ---------------------
  const map = document.getElementById("map");
  if (map) {
    const marks = [...map.querySelectorAll(".m")].map((node) => {
      const [x, y] = node.getAttribute("d").slice(1).split(/[a-z,]/).map(Number);
      return { node, x, y };
    });
    const ring = make("circle", { class: "ring", r: 8, visibility: "hidden" }, map);
    const open = () => marks.filter((mark) => !mark.node.hasAttribute("hidden"));
    let current = null;

    const nearest = (e) => {
      const point = new DOMPoint(e.clientX, e.clientY).matrixTransform(map.getScreenCTM().inverse());
      let best = null, least = 16 ** 2;
      // Later marks lie on top: they win a tie.
      for (const mark of open()) {
        const distance = (mark.x - point.x) ** 2 + (mark.y - point.y) ** 2;
        if (distance <= least) [best, least] = [mark, distance];
      }
      return best;
    };
    const choose = (mark, pin = false) => {
      current = mark;
      if (pinned && !pin) return;
      ring.setAttribute("cx", mark.x);
      ring.setAttribute("cy", mark.y);
      ring.setAttribute("visibility", "visible");
      show(+mark.node.dataset.s, ring, pin);
    };
    map.addEventListener("pointermove", (e) => { const mark = nearest(e); if (mark) choose(mark); else hide(); });
    map.addEventListener("pointerleave", () => hide());
    map.addEventListener("click", (e) => { const mark = nearest(e); hide(true); if (mark) choose(mark, true); });
    map.addEventListener("focus", () => { const seen = open(); if (!map.matches(":focus-visible") || !seen.length) return; choose(seen.includes(current) ? current : seen.at(-1)); });
    map.addEventListener("blur", () => hide());
    map.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
      if (!step) return;
      e.preventDefault();
      const from = current || open().at(-1);
      let best = null, least = Infinity;
      for (const mark of open()) {
        const [dx, dy] = [mark.x - from.x, mark.y - from.y];
        const along = dx * step[0] + dy * step[1], aside = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
        if (along > 0.2 && along + 2 * aside < least) [best, least] = [mark, along + 2 * aside];
      }
      if (best) { hide(true); choose(best); }
    });
    document.querySelectorAll("[data-show]").forEach((box) => box.addEventListener("change", () => {
      hide(true);
      map.querySelectorAll(`.m.${box.dataset.show}`).forEach((node) => node.toggleAttribute("hidden", !box.checked));
    }));
  }

  // ---- tables that sort, and picks of one round -------------------------------------------------
  document.querySelectorAll("th[aria-sort]").forEach((head) => head.firstElementChild.addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [p, q] = [key(a), key(b)];
      if (p === "" || q === "") return (p === "") - (q === ""); // what is not known stays at the end
      const sign = isNaN(p) || isNaN(q) ? p.localeCompare(q) : p - q;
      return up ? sign : -sign;
    };
    body.append(...[...body.rows].sort(order));
  }));
  const chosen = document.getElementById("of-round");
  if (chosen) chosen.addEventListener("change", () => {
    for (const row of document.querySelectorAll("#picks tbody tr")) row.hidden = chosen.value !== "" && row.dataset.round !== chosen.value;
  });

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement.style;
    const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.colorScheme = dark ? "light" : "dark";
  });
})();
