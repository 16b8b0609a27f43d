// Draws figures in the theme's colours, says how long ago things were, asks before what is hard to undo.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  const style = () => getComputedStyle(document.documentElement);

  // Every "var(--name)" of a figure becomes what the style sheet says now.
  const painted = (value, styles) => {
    if (typeof value === "string") {
      return value.replace(/^var\((--[a-z0-9-]+)\)$/, (_, name) => styles.getPropertyValue(name).trim());
    }
    if (Array.isArray(value)) return value.map((item) => painted(item, styles));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item, styles)]));
    }
    return value;
  };

  const draw = (plot) => {
    const source = plot.parentElement.querySelector("script[type='application/json']");
    if (!source || !window.Plotly) return;
    const styles = style();
    const figure = painted(JSON.parse(source.textContent), styles);
    figure.layout.font = { ...figure.layout.font, family: styles.getPropertyValue("--sans").trim() };
    window.Plotly.react(plot, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  };

  const drawAll = (within) => within.querySelectorAll("[data-plot]").forEach(draw);

  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
  const ago = (within) => {
    within.querySelectorAll("time[datetime]").forEach((time) => {
      const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
      const [unit, length] = units.find(([, size]) => Math.abs(seconds) >= size) || units[3];
      const words = relative.format(Math.round(seconds / length), unit);
      if (time.hasAttribute("data-ago")) time.textContent = words;
      else time.title = words;
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    drawAll(document);
    ago(document);
    setInterval(() => ago(document), 5000);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
    const button = document.querySelector(".menu-button");
    button?.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      document.getElementById("nav").classList.toggle("open", open);
    });
  });

  document.addEventListener("htmx:load", (event) => {
    drawAll(event.detail.elt);
    ago(event.detail.elt);
  });

  // A figure of a part that goes away must not keep listening for changes of the window's size.
  document.addEventListener("htmx:beforeCleanupElement", (event) => {
    if (event.detail.elt.matches?.("[data-plot]") && window.Plotly) window.Plotly.purge(event.detail.elt);
  });

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
})();
