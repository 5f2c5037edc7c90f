"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  let version = null;

  function make(tag, text, name) {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    if (name) node.className = name;
    return node;
  }
  function fill(id, nodes) { byId(id).replaceChildren(...nodes); }
  function rows(id, list, none) {
    const body = list.map((cells) => { const row = make("tr"); cells.forEach((c, i) => row.append(make(i ? "td" : "th", c))); return row; });
    fill(id, body);
    byId(id + "-none").textContent = list.length ? "" : none;
  }
  function draw(id, figure) {
    const place = byId(id), sentence = figure.layout.meta && figure.layout.meta.empty;
    byId(id + "-none").textContent = sentence || "";
    place.hidden = Boolean(sentence);
    if (sentence) return;
    place.style.height = figure.layout.height + "px";
    Plotly.react(place, figure.data, figure.layout, CONFIG);
  }
  function show(data) {
    byId("outcome").textContent = data.outcome;
    fill("states", data.states.map(([word, n]) => { const box = make("div"); box.append(make("b", n), make("span", word)); return box; }));
    byId("done").style.width = `${Math.min(100, 100 * data.done / Math.max(1, data.trials))}%`;
    rows("running", data.running, "Nothing is being trained.");
    rows("events", data.events, "Nothing has happened yet.");
    rows("failures", data.failures, "No trial failed.");
    if (data.version !== version) { draw("front", data.front); draw("growth", data.growth); version = data.version; }
  }
  async function poll() {
    try {
      const answer = await fetch("/data.json", { cache: "no-store" });
      const data = await answer.json();
      if (!answer.ok) throw new Error(data.error || answer.statusText);
      show(data);
      byId("age").textContent = "";
    } catch (error) {
      byId("age").textContent = `No fresh data: ${error.message}`;
    }
    setTimeout(poll, 2000);
  }
  poll();
})();
