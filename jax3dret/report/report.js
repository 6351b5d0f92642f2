// Comfort only: sorting, picking a class on the map, reading values off a curve. The page is complete without it.
"use strict";
(() => {
  const svg = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    return node;
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.dataset.sort = "";
      head.tabIndex = 0;
      const sort = () => {
        // Numbers start with the largest, names with the first of the alphabet; a second click turns the order.
        const now = head.getAttribute("aria-sort");
        const down = now === "none" ? column > 0 : now === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent;
        };
        const rows = [...table.tBodies[0].rows];
        const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
        rows.sort((a, b) => (down ? -1 : 1) * order(key(a), key(b)));
        table.tBodies[0].append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
      });
    });
  }

  for (const box of document.querySelectorAll(".mapbox")) {
    const map = box.querySelector(".map");
    const buttons = [...box.querySelectorAll(".legend button")];
    let held = null;
    const show = (kind) => {
      map.classList.toggle("picked", kind !== null);
      for (const node of map.querySelectorAll("[data-c]")) node.classList.toggle("on", node.dataset.c === kind);
    };
    for (const button of buttons) {
      const kind = button.dataset.c;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("mouseenter", () => show(kind));
      button.addEventListener("mouseleave", () => show(held));
      button.addEventListener("click", () => {
        held = held === kind ? null : kind;
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other.dataset.c === held)));
        show(held);
      });
    }
  }

  for (const chart of document.querySelectorAll("svg[data-lines]")) {
    const lines = JSON.parse(chart.dataset.lines);
    const cursor = chart.querySelector(".cursor");
    const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      cursor.replaceChildren();
      let row = 0;
      for (const line of lines) {
        if (!line.at.length) continue;
        let best = 0;
        line.at.forEach((point, i) => { if (Math.abs(point[0] - at) < Math.abs(line.at[best][0] - at)) best = i; });
        const [x, y] = line.at[best];
        if (row === 0) cursor.append(svg("line", { x1: x, x2: x, y1: 6, y2: height - 26 }));
        cursor.append(svg("circle", { cx: x, cy: y, r: 3 }));
        const text = svg("text", { x: x < width / 2 ? x + 8 : x - 8, y: 16 + 14 * row, "text-anchor": x < width / 2 ? "start" : "end" });
        text.textContent = (lines.length > 1 ? line.name + ": " : "") + line.y[best] + (row === 0 ? "  (" + chart.dataset.x + " " + (typeof line.x[best] === "number" ? Math.round(line.x[best]) : line.x[best]) + ")" : "");
        cursor.append(text);
        row += 1;
      }
    });
    chart.addEventListener("pointerleave", () => cursor.replaceChildren());
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.getAttribute("href").slice(1), a]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) {
        links.forEach((link) => link.classList.remove("here"));
        links.get(entry.target.id)?.classList.add("here");
      }
    }, { rootMargin: "-30% 0px -60% 0px" });
    document.querySelectorAll("main section").forEach((part) => seen.observe(part));
  }
})();
