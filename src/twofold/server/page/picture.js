// SVG: the pages of context memory, and bars of both memories' time by layer. Rectangles are kept and changed in place.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 170;
const LEFT = 56;
const FOOT = 18;
const TOP = 22;

function put(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function canvas(place, width, height, attributes) {
  const old = place.firstElementChild;
  if (old) return old;
  return put(place, "svg", { viewBox: `0 0 ${width} ${height}`, ...attributes });
}

function change(made, attributes) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
}

// The shares of pages that are used, cached and free. What it says is in the text beside it.
export function drawPages(place, used, cached, all) {
  const svg = canvas(place, 300, 14, { "aria-hidden": "true" });
  const share = (count) => (all ? (300 * count) / all : 0);
  const parts = { free: 300, cached: share(used + cached), context: share(used) };
  Object.entries(parts).forEach(([kind, width], i) => {
    const made = svg.children[i] ?? put(svg, "rect", { class: kind, x: 0, y: 2, height: 10, rx: 2 });
    change(made, { width });
  });
}

// A bar a layer: context memory's time on top of weight memory's, in microseconds a row; the last is the end of the step.
export function drawLayers(place, context, weights, text) {
  const svg = canvas(place, WIDTH, HEIGHT, { role: "img" });
  if (svg.dataset.bars !== String(weights.length)) prepare(svg, weights.length);
  svg.setAttribute("aria-label", text);
  const [bars, scale] = svg.children;
  const most = roundUp(Math.max(...weights.map((value, i) => value + (context[i] ?? 0))));
  const high = (value) => ((HEIGHT - TOP - FOOT) * value) / most;
  weights.forEach((value, i) => {
    const lower = high(value);
    const upper = high(context[i] ?? 0);
    change(bars.children[2 * i], { y: HEIGHT - FOOT - lower, height: lower });
    change(bars.children[2 * i + 1], { y: HEIGHT - FOOT - lower - upper, height: upper });
  });
  scale.textContent = `${most} µs`;
}

function prepare(svg, count) {
  svg.dataset.bars = count;
  svg.replaceChildren();
  const bars = put(svg, "g", {});
  put(svg, "text", { x: LEFT - 6, y: TOP + 4, "text-anchor": "end" });
  const step = (WIDTH - LEFT) / count;
  for (let i = 0; i < count; i++) {
    const box = { x: LEFT + step * (i + 0.12), width: step * 0.76, y: HEIGHT - FOOT, height: 0 };
    put(bars, "rect", { class: "weights", ...box });
    put(bars, "rect", { class: "context", ...box });
    const label = i === count - 1 ? "end" : i % 5 ? undefined : i;
    if (label !== undefined && (i === count - 1 || count - 1 - i > 2)) {
      put(svg, "text", { x: LEFT + step * (i + 0.5), y: HEIGHT - 4, "text-anchor": "middle" }, label);
    }
  }
  put(svg, "line", { class: "axis", x1: LEFT, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT });
  ["context", "weights"].forEach((kind, i) => {
    put(svg, "rect", { class: kind, x: LEFT + 110 * i, y: 0, width: 10, height: 10 });
    put(svg, "text", { x: LEFT + 110 * i + 15, y: 9 }, kind);
  });
}

// The next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, …
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((digit) => digit * power).find((limit) => limit >= value);
}
