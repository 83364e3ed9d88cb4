"use strict";
// Draws each figure when it comes near the viewport, and hides the methods that are switched off.
const config = JSON.parse(document.getElementById("config").textContent);
const hidden = new Set(); // indices of methods
const views = [];

const update = (view) => view.signal("hidden", [...hidden]).runAsync();

async function draw(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const { view } = await vegaEmbed(figure.querySelector(".chart"), spec, {
    actions: false,
    ast: true, // interprets expressions, because the page's policy forbids compiling them
    config,
    defaultStyle: false,
    logLevel: 1, // only errors; a chart whose methods are all switched off warns of an empty axis
    mode: "vega-lite",
    renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  });
  views.push(view);
  update(view);
}

const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    draw(target);
  }
}, { rootMargin: "400px" });
for (const figure of document.querySelectorAll("figure:has(.chart)")) observer.observe(figure);

document.getElementById("methods").addEventListener("change", ({ target }) => {
  const method = Number(target.value);
  if (target.checked) hidden.delete(method); else hidden.add(method);
  views.forEach(update);
  for (const tag of document.querySelectorAll(`[data-m="${method}"]`)) tag.hidden = !target.checked;
  window.dispatchEvent(new Event("resize")); // figures next to a hidden one change their width
});
