"use strict";

/* Tables: a click on a heading sorts by it, another one the other way round. */

const MISSING = new Set(["", "–", "nan", "unknown"]);
const UNITS = {
  "µs": 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600,
  B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, "%": 0.01, k: 1e3, M: 1e6, G: 1e9,
};
const NUMBER = /^([-+−]?)(?:(∞|inf(?:inity)?)|((?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?))\s*(\S*?)\s*(?:(?:[(±\[–]|to\s).*)?$/i;

/** The number at the beginning of a text, with its unit; an interval after it does not count. NaN: it has none. */
function numberOf(text) {
  const found = NUMBER.exec(text);
  if (!found) return NaN;
  const [, sign, infinite, digits, unit] = found;
  if (unit && !(unit in UNITS)) return NaN;
  const value = infinite ? Infinity : Number(digits.replaceAll(",", ""));
  return (sign && sign !== "+" ? -value : value) * (unit ? UNITS[unit] : 1);
}

function textOf(cell) {
  return (cell.dataset.value ?? cell.textContent).trim();
}

/** Sorts the rows of a table by a column: as numbers where all are, else as texts; what is missing comes last. */
function sortTable(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: textOf(row.cells[column]) }));
  const known = rows.filter(({ text }) => !MISSING.has(text.toLowerCase()));
  const missing = rows.filter(({ text }) => MISSING.has(text.toLowerCase()));
  const numbers = known.map(({ text }) => numberOf(text));
  known.forEach((item, i) => { item.number = numbers[i]; });
  const compare = numbers.some(Number.isNaN)
    ? (a, b) => a.text.localeCompare(b.text, "en", { numeric: true })
    : (a, b) => (a.number === b.number ? 0 : a.number - b.number);
  known.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
  body.append(...[...known, ...missing].map(({ row }) => row));
}

document.querySelectorAll("table.sortable").forEach((table) => {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortTable(table, column, ascending);
    });
  });
});

/* Figures: a click enlarges one; wheel, two fingers, keys and buttons zoom it, dragging moves it. */

const viewer = document.getElementById("viewer");
const stage = document.getElementById("stage");
const view = { picture: null, node: null, scale: 1, x: 0, y: 0 };
const pointers = new Map();

function show() {
  view.node.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
}

/** Zooms around a point of the stage. */
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(40, Math.max(0.1, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  show();
}

function move(x, y) {
  view.x += x;
  view.y += y;
  show();
}

/** The whole figure, in the middle of the stage. */
function fit() {
  view.scale = 1;
  view.node.style.transform = "none";
  const { width, height } = view.node.getBoundingClientRect();
  view.scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  view.x = (stage.clientWidth - width * view.scale) / 2;
  view.y = (stage.clientHeight - height * view.scale) / 2;
  show();
}

function enlarge(picture) {
  view.picture = picture;
  view.node = picture.firstElementChild;
  const { width } = view.node.getBoundingClientRect();
  // The page keeps its place while the figure is away.
  picture.style.height = `${picture.offsetHeight}px`;
  document.getElementById("shown").textContent = picture.parentElement.id;
  stage.replaceChildren(view.node);
  viewer.showModal();
  fit();
  // A wide figure on a phone is larger in the page: begin with its left part.
  const shown = view.node.getBoundingClientRect().width;
  if (shown < width) {
    zoom(width / shown, 0);
    view.x = 0;
    show();
  }
}

viewer.addEventListener("close", () => {
  view.node.style.transform = "";
  view.picture.append(view.node);
  view.picture.style.height = "";
  pointers.clear();
});

document.querySelectorAll("figure").forEach((figure) => {
  const picture = figure.querySelector(".picture");
  picture.addEventListener("click", () => enlarge(picture));
  figure.querySelector(".enlarge").addEventListener("click", () => enlarge(picture));
});

const actions = { in: () => zoom(1.4), out: () => zoom(1 / 1.4), fit, close: () => viewer.close() };
viewer.querySelectorAll("[data-do]").forEach((button) => {
  button.addEventListener("click", () => actions[button.dataset.do]());
});

const keys = {
  "+": actions.in, "=": actions.in, "-": actions.out, 0: fit,
  ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0),
  ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
};
viewer.addEventListener("keydown", (event) => {
  // Escape closes a dialog by itself.
  if (event.key in keys && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    keys[event.key]();
  }
});

function place(event) {
  const { left, top } = stage.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { x, y } = place(event);
  zoom(Math.exp(-event.deltaY / 400), x, y);
}, { passive: false });
stage.addEventListener("dblclick", (event) => {
  const { x, y } = place(event);
  zoom(2, x, y);
});
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
});
stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = place(event);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    zoom(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
  } else {
    move(now.x - before.x, now.y - before.y);
  }
  pointers.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
}
