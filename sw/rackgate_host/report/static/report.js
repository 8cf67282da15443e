// SPDX-License-Identifier: Apache-2.0
// Draws each plot when it comes into view, in the colours of the page, and again when these change.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue("--" + name).trim();
  }

  function painted(figure) {
    const colour = colours();
    const text = colour("text"), muted = colour("muted"), line = colour("line"), ground = colour("card");
    const data = figure.data.map((trace) => {
      const own = colour("series-" + trace.meta.colour);
      const made = { ...trace, marker: { ...trace.marker, color: own } };
      if (trace.type === "bar") {
        made.marker.line = { color: own, width: 1 };
        made.marker.pattern = { ...trace.marker.pattern, fgcolor: ground, fillmode: "overlay", size: 6 };
      } else {
        made.line = { ...trace.line, color: own };
        made.marker.line = { color: ground, width: 1 };
      }
      return made;
    });
    const axis = (one) => ({
      ...one, color: muted, gridcolor: line, linecolor: line, zerolinecolor: colour("level"),
      title: { ...(one.title || {}), font: { color: muted, size: 13 } }, tickfont: { color: text, size: 12 },
    });
    const layout = {
      ...figure.layout, autosize: true, dragmode: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: text, size: 13 },
      xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis),
      hoverlabel: { bgcolor: colour("ground"), bordercolor: line, font: { color: text } },
      shapes: (figure.layout.shapes || []).map((one) => ({
        ...one, line: { color: colour("level"), width: one.type === "rect" ? 0 : 1.5, dash: "dash" },
        ...(one.type === "rect" ? { fillcolor: colour("band") } : {}),
      })),
    };
    return { data, layout };
  }

  async function draw(place) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const { data, layout } = painted(figure);
    await Plotly.react(place, data, layout, { responsive: true, displayModeBar: false, showTips: false });
    place.dataset.drawn = "yes";
  }

  const places = [...document.querySelectorAll(".plot")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watch.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "600px" });
  places.forEach((place) => watch.observe(place));
  dark.addEventListener("change", () => places.filter((place) => place.dataset.drawn).forEach(draw));
  addEventListener("beforeprint", () => places.filter((place) => !place.dataset.drawn).forEach(draw));
})();
