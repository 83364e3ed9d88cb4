"use strict";
const off = new Set(), tip = document.getElementById("tip");
const svgTag = (name, attributes) => {
  const tag = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) tag.setAttribute(key, value);
  return tag;
};

// Methods are toggled everywhere: lines, heat maps, table rows.
document.querySelector("nav").addEventListener("change", ({ target }) => {
  if (target.checked) off.delete(target.value); else off.add(target.value);
  for (const tag of document.querySelectorAll("main [data-m]"))
    tag.classList.toggle("off", off.has(tag.dataset.m));
});

const number = (v) => Math.abs(v) >= 1e6 ? v.toExponential(2).replace("e+", "e")
  : Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(3)));

function show(event, content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = event.clientX + 16 + width > innerWidth;
  const x = right ? event.clientX - width - 16 : event.clientX + 16;
  tip.style.left = Math.max(4, x) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4)) + "px";
}

function nearest(points, x) {
  let best = 0;
  for (let k = 1; k < points.x.length; k++)
    if (Math.abs(points.x[k] - x) < Math.abs(points.x[best] - x)) best = k;
  return best;
}

function line(method, name, value) {
  const row = document.createElement("div"), mark = document.createElement("i");
  const text = document.createElement("span"), bold = document.createElement("b");
  row.className = method;
  text.textContent = name;
  bold.textContent = value;
  row.append(mark, text, bold);
  return row;
}

function pointAt(svg, event) {
  const box = svg.getBoundingClientRect();
  const { width } = svg.viewBox.baseVal;
  const [low, first, high, last] = svg.dataset.axes.split(" ").slice(0, 4).map(Number);
  const pixel = (event.clientX - box.left) / box.width * width;
  return low + (pixel - first) / (last - first) * (high - low);
}

function hover(svg, event) {
  const [x0, p0, x1, p1, y0, q0, y1, q1] = svg.dataset.axes.split(" ").map(Number);
  const x = Math.min(Math.max(pointAt(svg, event), x0), x1);
  const marks = svgTag("g", { class: "marks" }), rows = [];
  let at = null;
  for (const group of svg.querySelectorAll(".series:not(.off)")) {
    const points = group.points ??= JSON.parse(group.dataset.points);
    const k = nearest(points, x), y = points.y[k];
    const end = points.x[points.x.length - 1];
    if (x > end + (x1 - x0) * 0.02) continue;
    if (at === null || Math.abs(points.x[k] - x) < Math.abs(at - x)) at = points.x[k];
    const px = p0 + (points.x[k] - x0) / (x1 - x0) * (p1 - p0);
    const py = q0 + (y - y0) / (y1 - y0) * (q1 - q0);
    marks.append(svgTag("circle", { class: "dot " + group.classList[1], cx: px, cy: py, r: 3.4 }));
    const band = points.l && points.h ? ` [${number(points.l[k])}, ${number(points.h[k])}]` : "";
    rows.push([y, line(group.classList[1], points.n, number(y) + band)]);
  }
  svg.querySelector(".marks")?.remove();
  if (at === null) { tip.hidden = true; return; }
  const px = p0 + (at - x0) / (x1 - x0) * (p1 - p0);
  marks.prepend(svgTag("line", { class: "rule", x1: px, x2: px, y1: q0, y2: q1 }));
  svg.append(marks);
  const head = document.createElement("div");
  head.textContent = `${number(at)} ${svg.dataset.x}`;
  show(event, [head, ...rows.sort((a, b) => b[0] - a[0]).map((row) => row[1])]);
}

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.("svg.chart"), cell = event.target.closest?.("[data-t]");
  for (const marks of document.querySelectorAll("svg .marks"))
    if (marks.parentNode !== svg) marks.remove();
  if (svg) hover(svg, event);
  else if (cell) show(event, [cell.dataset.t]);
  else tip.hidden = true;
});
