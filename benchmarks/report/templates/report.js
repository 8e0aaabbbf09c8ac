"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.value;
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [m, n] = [Number(x), Number(y)];
        const way = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return up ? way : -way;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
// What a reader points at in a drawing is said: the values of the nearest point within a finger.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
const ring = document.createElement("div");
ring.className = "ring";
for (const drawing of document.querySelectorAll("[data-spots]")) {
  const spots = JSON.parse(drawing.dataset.spots);
  const svg = drawing.querySelector("svg");
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    let nearest = null;
    let least = 28;
    for (const [x, y, text] of spots) {
      const away = Math.hypot(box.left + x * scale - event.clientX, box.top + y * scale - event.clientY);
      if (away < least) [nearest, least] = [{ x: x * scale, y: y * scale, text }, away];
    }
    if (!nearest) return hide();
    tip.textContent = nearest.text;
    tip.hidden = false;
    drawing.append(ring);
    document.body.append(tip);
    const inside = drawing.getBoundingClientRect();
    ring.style.left = `${box.left - inside.left + nearest.x}px`;
    ring.style.top = `${box.top - inside.top + nearest.y}px`;
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const left = Math.min(box.left + nearest.x + 12, innerWidth - width - 8);
    const above = box.top + nearest.y - height - 12;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : box.top + nearest.y + 14}px`;
  };
  const hide = () => { tip.hidden = true; ring.remove(); };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerdown", show);
  drawing.addEventListener("pointerleave", hide);
}
addEventListener("scroll", () => { tip.hidden = true; ring.remove(); }, { passive: true });
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
