"use strict";

// A board sorts by a click on a column's head, the best first; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, at) => {
    const cell = row.cells[at];
    if (!("value" in cell.dataset)) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = "value" in body.rows[0].cells[at].dataset;
      const ascending = at === 0 || !numeric || "lower" in head.dataset;
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : ascending;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((one, other) => {
        const a = key(one, at), b = key(other, at);
        if (a === null || b === null) return (a === null) - (b === null);
        return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
}

// Its rows are chosen by what they have, and by words that each must hold.
for (const form of document.querySelectorAll("form.filters")) {
  const table = form.parentElement.querySelector("table.board");
  const rows = [...table.tBodies[0].rows];
  const said = form.querySelector("output");
  const show = () => {
    const of = Object.fromEntries([...form.elements].filter((each) => each.dataset.by).map(
      (each) => [each.dataset.by, each.type === "checkbox" ? each.checked : each.value]));
    const words = of.text.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const { name, dataset, kind, role } = row.dataset;
      const text = [name, dataset, kind, role].join(" ").toLowerCase();
      row.hidden = (of.dataset && of.dataset !== dataset) || (of.kind && of.kind !== kind)
        || (of.role && of.role !== role) || (of.aside === false && "aside" in row.dataset)
        || !words.every((word) => text.includes(word));
    }
    table.classList.toggle("few", of.more === false);
    said.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}

// What a mark says of itself shows beside it: under the pointer, a finger, or by the arrow keys.
{
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  const spot = document.createElementNS(document.querySelector("svg")?.namespaceURI ?? null, "circle");
  spot.setAttribute("class", "spot");
  spot.setAttribute("r", "6");
  const REACH = 26; // pixels from a mark at which it is meant
  const marks = new WeakMap();
  let shown = null; // {svg, at}

  document.body.append(tip);

  const figure = (value) => {
    const size = Math.abs(value);
    const text = size && (size < 0.001 || size >= 1e6) ? value.toExponential(2)
      : value.toFixed(size < 1 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0);
    return (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text).replace("-", "−");
  };

  // The value at a position, and whether it is at the upper end, where curves are cut.
  const scaleOf = (words) => {
    const [low, high, start, end, log] = words.split(" ").map(Number);
    return (at) => {
      const share = (at - start) / (end - start);
      return log ? low * (high / low) ** share : low + share * (high - low);
    };
  };

  const points = (line) => [...line.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)]
    .map(([, x, y]) => [Number(x), Number(y)]);

  // Everything in a drawing that has something to say: {x, y, text, box}.
  const marksOf = (svg) => {
    if (marks.has(svg)) return marks.get(svg);
    const found = [];
    for (const title of svg.querySelectorAll("title")) {
      const mark = title.parentElement, text = title.textContent;
      if (mark.classList.contains("dots")) {
        for (const [x, y] of points(mark)) found.push({ x, y, text, box: [x, y, x, y] });
      } else {
        const { x, y, width, height } = mark.getBBox();
        found.push({ x: x + width / 2, y: y + height / 2, text, box: [x, y, x + width, y + height] });
      }
      title.remove(); // else the browser shows it too
    }
    if (svg.dataset.x) {
      const across = scaleOf(svg.dataset.x), up = scaleOf(svg.dataset.y);
      const { xTitle, yTitle } = svg.dataset;
      const named = (title, value) => (title ? `${title} ${figure(value)}` : figure(value));
      for (const line of svg.querySelectorAll("path[data-name]")) {
        for (const [x, y] of points(line)) {
          const text = `${line.dataset.name}: ${named(xTitle, across(x))}, ${named(yTitle, up(y))}`;
          found.push({ x, y, text, box: [x, y, x, y] });
        }
      }
    }
    found.sort((one, other) => one.x - other.x || one.y - other.y);
    marks.set(svg, found);
    return found;
  };

  const hide = () => {
    shown = null;
    spot.remove();
    tip.classList.remove("on");
    tip.textContent = "";
  };

  const place = () => {
    if (!shown) return;
    const { x, y } = marksOf(shown.svg)[shown.at];
    const at = new DOMPoint(x, y).matrixTransform(shown.svg.getScreenCTM());
    const { width, height } = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    tip.style.left = `${Math.min(Math.max(at.x - width / 2, 6), room - width - 6)}px`;
    tip.style.top = `${at.y - height - 12 > 4 ? at.y - height - 12 : at.y + 14}px`;
  };

  const show = (svg, at) => {
    const mark = marksOf(svg)[at];
    if (!mark || (shown && shown.svg === svg && shown.at === at)) return;
    shown = { svg, at };
    spot.setAttribute("cx", mark.x);
    spot.setAttribute("cy", mark.y);
    if (svg.classList.contains("plot")) svg.append(spot);
    else spot.remove();
    tip.textContent = mark.text;
    tip.classList.add("on");
    place();
  };

  const nearest = (svg, event) => {
    const matrix = svg.getScreenCTM();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = -1, least = REACH / matrix.a, size = Infinity;
    marksOf(svg).forEach(({ box: [left, top, right, bottom] }, at) => {
      const away = Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
      const area = (right - left) * (bottom - top);
      if (away < least || (away === least && area < size)) [best, least, size] = [at, away, area];
    });
    return best;
  };

  const meant = (event) => {
    const svg = event.target.closest?.("svg[role=img]");
    const at = svg ? nearest(svg, event) : -1;
    if (at >= 0) show(svg, at);
    else if (shown && (event.type === "pointerdown" || document.activeElement !== shown.svg)) hide();
  };
  document.addEventListener("pointermove", meant);
  document.addEventListener("pointerdown", meant);
  document.addEventListener("scroll", place, { passive: true, capture: true });

  // Marks in tables have their numbers beside them; to the others the tabulator key leads.
  for (const svg of document.querySelectorAll("svg.plot")) {
    if (!svg.querySelector("title, path[data-name]")) continue;
    svg.tabIndex = 0;
    svg.setAttribute("aria-describedby", "keys");
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const last = marksOf(svg).length - 1, at = shown?.svg === svg ? shown.at : -1;
      const to = { ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: last };
      if (event.key === "Escape") hide();
      else if (event.key in to) {
        event.preventDefault();
        show(svg, to[event.key]);
      }
    });
  }
}
