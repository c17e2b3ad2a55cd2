"use strict";

// A table's head: a click sorts by its column, the next click turns the order round.
// What has no value stays at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const words = new Intl.Collator("en", { numeric: true });
  const numeric = (column) => heads[column].classList.contains("number");
  const compared = (column) => (a, b) => {
    const [one, other] = [a.cells[column], b.cells[column]];
    if (!numeric(column)) return words.compare(one.textContent, other.textContent);
    return one.dataset.value - other.dataset.value;
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const empty = (row) => numeric(column) && !("value" in row.cells[column].dataset);
      const sorted = rows.filter((row) => !empty(row)).sort(compared(column));
      if (down) sorted.reverse();
      table.tBodies[0].append(...sorted, ...rows.filter(empty));
    });
  });
}

// Plots were drawn while the page was still taking its shape.
for (const plot of document.querySelectorAll(".chart .js-plotly-plot")) Plotly.Plots.resize(plot);

// Plots keep the width of the screen; paper is narrower.
for (const [event, width] of [["beforeprint", 660], ["afterprint", null]]) {
  window.addEventListener(event, () => {
    for (const plot of document.querySelectorAll(".chart .js-plotly-plot")) {
      Plotly.relayout(plot, { width, autosize: width === null });
    }
  });
}

const viewer = document.getElementById("viewer");
if (viewer) {
  const [picture, slider, place, chosen, told, lines] = ["picture", "slider", "place", "study", "told", "lines"]
    .map((id) => document.getElementById(id));
  const NOTCH = 50; // pixels of scrolling for a slice; a wheel's notch is more, and counts as one
  const studies = new Map(); // opened ones, by their id
  let study = null;
  let waiting = false;

  async function opened(id) {
    if (!studies.has(id)) {
      const { told, content } = JSON.parse(document.getElementById(id).textContent);
      studies.set(id, { id, told, ...content, voxels: await inflated(content.voxels) });
    }
    return studies.get(id);
  }

  async function inflated(base64) {
    const text = atob(base64);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function open() {
    told.textContent = "opening …";
    try {
      study = await opened(chosen.value);
    } catch (error) {
      told.textContent = `The slices cannot be opened; a browser of 2023 or later can (${error.message}).`;
      return;
    }
    told.textContent = study.told;
    slider.max = study.slices - 1;
    slider.value = study.start;
    const { columns, rows, pixel_mm: [x, y] } = study;
    picture.style.aspectRatio = `${columns * x} / ${rows * y}`;
    offer(study.lines);
    draw();
  }

  function offer(offered) {
    lines.replaceChildren(lines.querySelector("legend"));
    for (const line of offered) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: line.shown });
      const stroke = document.createElement("i");
      stroke.style.color = line.colour;
      box.addEventListener("change", () => { line.shown = box.checked; draw(); });
      label.append(box, " ", stroke, line.name);
      lines.append(label);
    }
    if (!offered.length) lines.append("none");
  }

  function slice(number) {
    const { columns, rows, slices, voxels, lowest_hu: lowest, step_hu: step } = study;
    const high = columns * rows * slices; // where the high bytes begin
    return Array.from({ length: rows }, (_, row) => {
      const first = (number * rows + row) * columns;
      const hu = new Float32Array(columns);
      for (let i = 0; i < columns; i++) {
        hu[i] = lowest + step * (voxels[first + i] + 256 * voxels[high + first + i]);
      }
      return hu;
    });
  }

  function traces(number) {
    const { pixel_mm: [dx, dy], offset_mm: [x0, y0] } = study;
    const { low, high } = document.querySelector("#windows input:checked").dataset;
    const image = {
      type: "heatmap", z: slice(number), x0, dx, y0, dy, zmin: +low, zmax: +high, zsmooth: "fast",
      colorscale: [[0, "#000"], [1, "#fff"]], showscale: false, hovertemplate: "%{z:.0f} HU<extra></extra>",
    };
    const outlines = study.lines.map(({ colour, shown, points }) => ({
      type: "scatter", mode: "lines", x: points[number][0], y: points[number][1], visible: shown,
      line: { color: colour, width: 2 }, hoverinfo: "skip", showlegend: false,
    }));
    return [image, ...outlines];
  }

  // The patient's right is on the left: x grows to the right of the patient, so its axis runs backwards.
  function layout() {
    const { columns, rows, pixel_mm: [dx, dy], offset_mm: [x0, y0] } = study;
    const bare = { visible: false, constrain: "domain" };
    const side = (text, x, xanchor) => ({
      text, x, xanchor, xref: "x domain", y: 0.5, yref: "y domain", showarrow: false, font: { color: "#fff", size: 15 },
    });
    return {
      xaxis: { ...bare, range: [x0 + (columns - 0.5) * dx, x0 - 0.5 * dx] },
      yaxis: { ...bare, range: [y0 - 0.5 * dy, y0 + (rows - 0.5) * dy], scaleanchor: "x" },
      annotations: [side("R", 0.01, "left"), side("L", 0.99, "right")],
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#000", plot_bgcolor: "#000", uirevision: study.id,
    };
  }

  function draw() {
    if (waiting || !study) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const number = +slider.value;
      Plotly.react(picture, traces(number), layout(), { displayModeBar: false, responsive: true });
      place.textContent = `${study.names[number]}, z ${study.heights_mm[number].toFixed(1)} mm`;
      slider.setAttribute("aria-valuetext", place.textContent);
    });
  }

  let travelled = 0;
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode ? Math.sign(event.deltaY) * NOTCH : event.deltaY;
    travelled += Math.max(-NOTCH, Math.min(NOTCH, pixels));
    if (Math.abs(travelled) >= NOTCH) {
      slider.value = +slider.value - Math.sign(travelled); // down is towards the feet
      travelled = 0;
      draw();
    }
  }, { passive: false });
  picture.addEventListener("pointerup", () => slider.focus({ preventScroll: true })); // for its keys
  slider.addEventListener("input", draw);
  chosen.addEventListener("change", open);
  document.getElementById("windows").addEventListener("change", draw);
  for (const link of document.querySelectorAll("a.open")) {
    link.addEventListener("click", () => { chosen.value = link.dataset.study; open(); });
  }
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      if (!study) open();
    }
  }, { rootMargin: "400px" }).observe(viewer);
}
