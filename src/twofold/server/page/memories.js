// The live picture: figures of the server once a second while somebody looks, and rates as differences of two of them.

import { ask } from "./asking.js";
import { drawLayers, drawPages } from "./picture.js";

const GLANCE = 1000; // milliseconds
const at = (id) => document.getElementById(id);

export class Memories {
  constructor() {
    this.before = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.look());
    this.look();
  }

  look() {
    clearTimeout(this.timer);
    if (document.visibilityState === "visible") this.timer = setTimeout(() => this.glance(), 0);
  }

  async glance() {
    try {
      const now = await (await ask("v1/memories")).json();
      const known = this.before && this.before.weights.steps <= now.weights.steps; // else the server was started anew
      this.show(now, known ? this.before : now);
      this.before = now;
      at("picture-state").textContent = "live, once a second";
    } catch (error) {
      at("picture-state").textContent = error.message;
    }
    if (document.visibilityState !== "visible") return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.glance(), GLANCE);
  }

  show(now, before) {
    const seconds = now.seconds - before.seconds;
    const rate = (of) => (seconds > 0 ? (of(now) - of(before)) / seconds : 0);
    const busy = (of) => `${Math.round(rate(of) / 1e7)} %`; // nanoseconds a second, as a share
    const steps = now.weights.steps - before.weights.steps;
    const rows = now.weights.rows - before.weights.rows;
    tell("running", now.context.running);
    tell("waiting", now.context.waiting);
    tell("rate", Math.round(rate((m) => m.context.generated_tokens)));
    tell("calls", Math.round(rate((m) => m.weights.calls)));
    tell("batch", steps ? (rows / steps).toFixed(1) : "–");
    tell("context-busy", busy((m) => m.context.worked_ns));
    tell("weights-busy", busy((m) => m.weights.worked_ns));
    tell("link-busy", busy((m) => m.weights.link_ns));
    showPages(now.context);
    showProcessors(now.weights.processors);
    if (rows > 0) showLayers(now, before, rows);
  }
}

function tell(id, value) {
  at(id).textContent = value;
}

function showPages({ pages, pages_used: used, pages_cached: cached }) {
  drawPages(at("pages"), used, cached, pages);
  tell("pages-text", `${used} pages in use, ${cached} remembered, ${pages} in all`);
}

function showProcessors(processors) {
  const lines = processors.map(({ link, state, draining, segments }) => {
    const line = document.createElement("li");
    const here = link === "inproc" ? "in this process" : `over ${link}://`;
    line.textContent = `${state}${draining ? ", draining" : ""}: segments ${segments}, ${here}`;
    return line;
  });
  at("processors").replaceChildren(...lines);
}

function showLayers(now, before, rows) {
  const micros = (late, early) => late.map((value, i) => (value - early[i]) / rows / 1000);
  const weights = micros(now.weights.segments_ns, before.weights.segments_ns);
  const context = micros(now.context.layers_ns, before.context.layers_ns);
  const sum = (values) => Math.round(values.reduce((a, b) => a + b, 0));
  const text = `The last ${rows} rows: ${sum(context)} µs a row in context memory, ${sum(weights)} µs in weight memory.`;
  drawLayers(at("layers"), context, weights, text);
  tell("layers-text", text);
  at("layers-table").replaceChildren(...weights.map((value, i) => tableRow(i, context[i], value)));
}

function tableRow(number, context, weights) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = context === undefined ? "end" : number;
  line.append(head);
  for (const value of [context, weights]) {
    const cell = document.createElement("td");
    cell.textContent = value === undefined ? "–" : value.toFixed(1);
    line.append(cell);
  }
  return line;
}
