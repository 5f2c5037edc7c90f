"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const TRIALS = new Map(DATA.trials.map((t) => [t.number, t]));
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const front = document.getElementById("plot-pareto");
  const pane = document.getElementById("pane");

  // -- small builders: text only, never markup ------------------------------------------------
  function make(tag, text, name) {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    if (name) node.className = name;
    return node;
  }
  function add(parent, ...children) { children.forEach((c) => parent.appendChild(c)); return parent; }
  function count(value) {
    for (const [size, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= 0.9995 * size) return Number((value / size).toPrecision(3)) + " " + prefix;
    }
    return String(Number(value.toPrecision(3)));
  }
  function plain(value) {
    if (value === null || value === undefined) return "–";
    if (Array.isArray(value)) return value.map(plain).join(" ");
    if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }
  function table(heads, rows) {
    const node = make("table"), head = make("tr"), body = make("tbody");
    heads.forEach((h, i) => add(head, make("th", h, i ? "num" : "")));
    rows.forEach((cells) => {
      const row = make("tr");
      cells.forEach((c, i) => add(row, c instanceof Node ? c : make("td", c, i ? "num" : "")));
      add(body, row);
    });
    return add(node, add(make("thead"), head), body);
  }

  // -- figures ------------------------------------------------------------------------------
  document.querySelectorAll("script.figure").forEach((script) => {
    const figure = JSON.parse(script.textContent);
    Plotly.newPlot(script.dataset.plot, figure.data, figure.layout, CONFIG);
  });

  // -- the front: other axes ------------------------------------------------------------------
  function ticks(values) {
    const low = Math.log10(Math.min(...values)) - 0.05, high = Math.log10(Math.max(...values)) + 0.05;
    const found = [];
    for (let e = Math.floor(low) - 1; e <= Math.ceil(high); e++) {
      for (const m of high - low < 2.5 ? [1, 2, 5] : [1]) {
        const at = m * 10 ** e;
        if (Math.log10(at) >= low && Math.log10(at) <= high) found.push(at);
      }
    }
    const axis = { range: [low, high], autorange: false };
    if (found.length > 1) { axis.tickvals = found; axis.ticktext = found.map(count); }
    return axis;
  }
  function axisOf(name, numbers, old) {
    const values = numbers.map((n) => TRIALS.get(n).values[name]).filter((v) => v !== undefined);
    const axis = { ...old, autorange: true };
    delete axis.range; delete axis.tickvals; delete axis.ticktext;
    axis.title = { ...old.title, text: escape(DATA.axes[name].heading) };
    const low = Math.min(...values), high = Math.max(...values);
    if (low === high) {
      const away = 0.2 * Math.abs(low) || 1;
      Object.assign(axis, { autorange: false, range: [low - away, high + away] });
    }
    const wide = values.length && low > 0 && high > 4 * low && DATA.axes[name].kind !== "score";
    axis.type = wide ? "log" : "linear";
    return wide ? Object.assign(axis, ticks(values)) : axis;
  }
  function escape(text) { return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); }
  function stairs(x, y) {
    let found = DATA.trials.filter((t) => ["front", "dominated"].includes(t.role)
      && t.values[x] !== undefined && t.values[y] !== undefined);
    // Measured and provisional latencies are never compared.
    if ([x, y].includes("latency_ms") && found.some((t) => t.measured)) found = found.filter((t) => t.measured);
    const sx = DATA.axes[x].direction === "minimize" ? 1 : -1, sy = DATA.axes[y].direction === "minimize" ? 1 : -1;
    found.sort((a, b) => sx * (a.values[x] - b.values[x]) || sy * (a.values[y] - b.values[y]));
    let best = Infinity;
    const kept = found.filter((t) => sy * t.values[y] < best && ((best = sy * t.values[y]), true));
    return kept.sort((a, b) => a.values[x] - b.values[x]);
  }
  function bars(numbers, axis, old) {
    const array = numbers.map((n) => (TRIALS.get(n).spread[axis] || [0])[0]);
    return { ...old, array, visible: array.some((v) => v > 0) };
  }
  function moveAxes() {
    const x = document.getElementById("axis-x").value, y = document.getElementById("axis-y").value;
    const stopped = document.getElementById("show-stopped").checked;
    const shown = [];
    const data = front.data.map((trace) => {
      const role = (trace.meta || {}).role;
      if (role === "step") {
        const line = stairs(x, y);
        const shape = DATA.axes[x].direction === "minimize" ? "hv" : "vh";
        return { ...trace, x: line.map((t) => t.values[x]), y: line.map((t) => t.values[y]), line: { ...trace.line, shape } };
      }
      if (!trace.customdata) return trace;
      const visible = role === "stopped" ? stopped : true;
      if (visible) shown.push(...trace.customdata);
      const at = (axis) => trace.customdata.map((n) => TRIALS.get(n).values[axis] ?? null);
      const moved = { ...trace, x: at(x), y: at(y), visible };
      if (role === "front") {
        const colour = { color: (trace.error_y || {}).color, thickness: 1.2, width: 3 };
        moved.error_y = bars(trace.customdata, y, colour);
        moved.error_x = bars(trace.customdata, x, colour);
      }
      return moved;
    });
    const known = shown.filter((n) => TRIALS.get(n).values[x] !== undefined && TRIALS.get(n).values[y] !== undefined);
    const layout = { ...front.layout, xaxis: axisOf(x, known, front.layout.xaxis), yaxis: axisOf(y, known, front.layout.yaxis) };
    Plotly.react(front, data, layout, CONFIG);
  }

  // -- one network beside the front -----------------------------------------------------------
  function values(trial) {
    const rows = Object.keys(DATA.axes).filter((a) => trial.shown[a] !== undefined && (a !== "flops" && trial.values[a] || DATA.study.objectives[a])).map((a) => {
      let how = DATA.axes[a].standing;
      if (a === "latency_ms" && !trial.measured) how = "provisional";
      if (how === "scored") how = "valid";
      const [sd, seeds] = trial.spread[a] || [];
      const text = trial.shown[a] + (seeds ? ` ± ${sd.toFixed(1)} (${seeds} seeds)` : "");
      return [DATA.axes[a].label, text, how];
    });
    Object.keys(trial.test).forEach((a) => rows.splice(1, 0, [DATA.axes[a].label, trial.test_shown[a], "test"]));
    return table(["quantity", "value", ""], rows.map((r) => [r[0], r[1], make("td", r[2], "num field")]));
  }
  function fields(entries) {
    const list = make("dl", null, "fields");
    entries.forEach(([k, v]) => add(list, make("dt", k), make("dd", plain(v))));
    return list;
  }
  function curve(trial, parent) {
    const score = DATA.y, traces = [];
    if (trial.curve && trial.curve.length) {
      traces.push({ x: trial.curve.map((r) => r.samples), y: trial.curve.map((r) => r.loss), name: "loss",
        mode: "lines", line: { color: "#b4bfca", width: 1.5 }, yaxis: "y2", hovertemplate: "loss %{y:.3f}<extra></extra>" });
    }
    const rungs = trial.rungs.filter((r) => r.values[score] !== undefined);
    if (rungs.length) {
      traces.push({ x: rungs.map((r) => r.samples), y: rungs.map((r) => r.values[score]), name: escape(DATA.axes[score].label),
        mode: "lines+markers", line: { color: "#0072B2", width: 2 }, marker: { size: 6 }, hovertemplate: "%{y:.1f}<extra></extra>" });
    }
    if (!traces.length) { add(parent, make("p", "No curve is in the run folder.", "none")); return; }
    const plot = make("div");
    add(parent, plot);
    const axis = { gridcolor: "#e3e8ee", zeroline: false, tickfont: { color: "#5f6c7a", size: 11 }, automargin: true, nticks: 5 };
    Plotly.newPlot(plot, traces, {
      height: 190, margin: { l: 34, r: 34, t: 26, b: 34 }, font: { family: "system-ui, sans-serif", size: 11.5, color: "#1b2733" },
      xaxis: { ...axis, title: { text: "samples", font: { size: 11.5, color: "#5f6c7a" }, standoff: 4 }, tickformat: "~s" },
      yaxis: axis, yaxis2: { ...axis, overlaying: "y", side: "right", showgrid: false, tickformat: ".1f" },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11.5, color: "#5f6c7a" } },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x",
    }, CONFIG);
  }
  function layers(trial) {
    if (!trial.layers || !trial.layers.length) return make("p", "The cost by layer is not in the run folder.", "none");
    const names = { macs: "MACs", adds: "adds", shifts: "shifts", bit_ops: "bit ops", lookups: "look-ups", params: "params" };
    const kinds = Object.keys(names).filter((k) => trial.layers.some((l) => l[k]));
    const rows = trial.layers.map((l) => {
      const first = make("td", l.name || l.kind);
      first.title = `${l.name} (${l.kind})`;
      return [first, ...kinds.map((k) => (l[k] ? count(l[k]) : ""))];
    });
    return add(make("div", null, "layers"), table(["layer", ...kinds.map((k) => names[k])], rows));
  }
  function show(number) {
    const trial = TRIALS.get(number);
    if (!trial || !pane) return;
    pane.replaceChildren();
    add(pane, add(make("h3", trial.name), make("span", trial.stands, "chip"), make("small", [trial.space, trial.origin].filter(Boolean).join(", "))));
    if (trial.unpriced.length) add(pane, make("p", "Its cost is not fully known: " + trial.unpriced.join(", "), "note"));
    for (const note of trial.notes) add(pane, make("p", note, "note"));
    for (const note of trial.again) add(pane, make("p", note, "note"));
    add(pane, make("h4", "What it reaches"), values(trial));
    add(pane, make("h4", "Architecture"), fields(Object.entries(trial.candidate)));
    add(pane, make("h4", "Learning curve"));
    curve(trial, pane);
    add(pane, make("h4", "Cost by layer"), layers(trial));
    if (Object.keys(trial.diagnosis).length) add(pane, make("h4", "What the technique did"), fields(Object.entries(trial.diagnosis)));
    if (trial.state === "COMPLETE") {
      const command = `${document.getElementById("data").dataset.export} ${trial.name}`;
      const button = make("button", "Copy");
      button.type = "button";
      button.onclick = () => {
        const range = document.createRange();
        range.selectNodeContents(button.previousSibling);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        if (document.execCommand("copy")) button.textContent = "Copied";
      };
      add(pane, make("h4", "Export it"), add(make("div", null, "command"), make("code", command), button));
    }
    pane.scrollTop = 0;
    pane.dataset.trial = trial.name;
    document.querySelectorAll("[data-trial].on").forEach((n) => n.classList.remove("on"));
    document.querySelectorAll(`[data-trial="${number}"]`).forEach((n) => n.classList.add("on"));
  }

  if (front && front.data) {
    front.on("plotly_click", (event) => {
      const point = event.points.find((p) => p.customdata !== undefined);
      if (point) show(point.customdata);
    });
    ["axis-x", "axis-y", "show-stopped"].forEach((id) => document.getElementById(id).addEventListener("change", moveAxes));
  }
  document.querySelectorAll("[data-trial]").forEach((node) => {
    if (node === pane) return;
    const open = () => show(Number(node.dataset.trial));
    node.addEventListener("click", open);
    node.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open(); } });
  });
  const first = document.querySelector(".finding[data-trial]");
  if (first) show(Number(first.dataset.trial));

  // -- tables sorted by a heading ---------------------------------------------------------------
  document.querySelectorAll("table.sortable thead th").forEach((head) => {
    head.tabIndex = 0;
    const sort = () => {
      const index = head.cellIndex, body = head.closest("table").tBodies[0];
      const up = head.getAttribute("aria-sort") !== "ascending";
      head.parentNode.querySelectorAll("th").forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[index], raw = cell.dataset.value ?? cell.textContent;
        return raw === "" || Number.isNaN(Number(raw)) ? raw : Number(raw);
      };
      const sorted = [...body.rows].sort((a, b) => {
        const p = key(a), q = key(b);
        const less = typeof p === typeof q ? (p < q ? -1 : p > q ? 1 : 0) : typeof p === "number" ? -1 : 1;
        return up ? less : -less;
      });
      body.append(...sorted);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (e) => { if (e.key === "Enter") sort(); });
  });

  // -- the data as a file -----------------------------------------------------------------------
  document.getElementById("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(DATA, null, 1)], { type: "application/json" }));
    link.download = DATA.study.name + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
