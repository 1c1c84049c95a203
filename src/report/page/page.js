"use strict";
(() => {
  const tip = document.getElementById("tip");
  let on = null;

  function hide() {
    tip.hidden = true;
    if (on) on.classList.remove("on");
    on = null;
  }

  function show(mark, x, y, chosen) {
    if (on && on !== mark) on.classList.remove("on");
    on = mark;
    if (chosen) mark.classList.add("on");
    if (tip.textContent !== mark.dataset.tip) tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.min(Math.max(4, y - box.height / 2), Math.max(4, innerHeight - box.height - 4)) + "px";
  }

  // every mark of a plot, from left to right
  function marks(plot) {
    const all = [...plot.querySelectorAll(".m")].filter((mark) => !mark.closest(".off"));
    return all
      .map((mark) => ({ mark, box: mark.getBBox() }))
      .sort((a, b) => a.box.x - b.box.x || a.box.y - b.box.y)
      .map((m) => m.mark);
  }

  function enliven(plot) {
    // the page's own tips take the place of the browser's
    const heading = plot.querySelector(":scope > title");
    if (heading) heading.remove();
    let at = -1;
    plot.addEventListener("pointermove", (event) => {
      const mark = event.target.closest(".m");
      if (mark) show(mark, event.clientX, event.clientY, false);
      else hide();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", () => { at = -1; hide(); });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") { at = -1; hide(); return; }
      const ordered = marks(plot);
      if (!ordered.length) return;
      if (event.key === "Home") at = 0;
      else if (event.key === "End") at = ordered.length - 1;
      else if (step) at = at < 0 ? (step > 0 ? 0 : ordered.length - 1) : Math.min(Math.max(at + step, 0), ordered.length - 1);
      else return;
      event.preventDefault();
      const box = ordered[at].getBoundingClientRect();
      show(ordered[at], box.right, box.top + box.height / 2, true);
    });
  }
  // an entry of a legend switches its series in every plot of the page
  function turn(entry) {
    const on = entry.getAttribute("aria-checked") !== "true";
    const name = entry.getAttribute("aria-label");
    for (const other of document.querySelectorAll("[data-switch]")) {
      if (other.getAttribute("aria-label") !== name) continue;
      other.setAttribute("aria-checked", on);
      const plot = other.closest("svg");
      plot.querySelectorAll(`[data-series="${other.dataset.switch}"]`).forEach((part) => part.classList.toggle("off", !on));
    }
    hide();
  }
  for (const entry of document.querySelectorAll("[data-switch]")) {
    entry.addEventListener("click", () => turn(entry));
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      turn(entry);
    });
  }

  document.querySelectorAll("svg.plot").forEach(enliven);
  addEventListener("scroll", hide, { passive: true });

  // any problem's traces: their pictures wait as text
  const chosen = document.getElementById("problem");
  if (chosen) {
    const one = document.getElementById("one");
    const waiting = new Map([[chosen.value, one.innerHTML]]);
    for (const text of document.querySelectorAll("script[data-problem]")) waiting.set(text.dataset.problem, text.textContent);
    chosen.addEventListener("change", () => {
      hide();
      one.innerHTML = waiting.get(chosen.value);
      one.querySelectorAll("svg.plot").forEach(enliven);
    });
  }

  // tables: a click on a column sorts by it
  const number = (text) => {
    const found = text.replace(/,/g, "").replace("\u2212", "-").match(/-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/);
    return found ? Number(found[0]) : NaN;
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("n");
      const key = (row) => {
        const text = row.cells[i].textContent;
        return numeric ? number(text) : text;
      };
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row) }));
      rows.sort((a, b) => {
        if (!numeric) return a.key.localeCompare(b.key, undefined, { numeric: true }) * (down ? -1 : 1);
        // what has no number stands last either way
        if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key);
        return (a.key - b.key) * (down ? -1 : 1);
      });
      table.tBodies[0].append(...rows.map((r) => r.row));
    }));
  }

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.getElementById("list").tBodies[0].rows];
    const shown = document.getElementById("shown");
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase();
      let n = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        n += row.hidden ? 0 : 1;
      }
      shown.textContent = wanted ? n + " of " + rows.length : "";
    });
  }

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
