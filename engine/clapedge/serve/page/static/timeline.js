// A long recording over time: a row a label, its probability as an area, its events as bars.

import { clock, drawSeconds, seconds } from "./figure.js";
import { button } from "./labels.js";
import { translate} from "./words.js";

const HUES = ["#6741d9", "#d9480f", "#0b7285", "#a61e4d", "#2b8a3e", "#1864ab", "#8f5a00", "#862e9c", "#495057", "#087f5b"];
const DRAWING = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 40;

/** Draw the probabilities between edges, and the events, of a recording of so many seconds. */
export function drawTimeline(root, { labels, edges, probabilities, events, of }) {
  const rows = labels.map((name, index) => {
    const heights = probabilities.map((all) => all[index]);
    return row(name, HUES[index % HUES.length], { edges, heights, events: events.filter(({ label }) => label === name), of });
  });
  const axis = Object.assign(document.createElement("div"), { className: "seconds" });
  root.replaceChildren(...rows, axis);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", translate("timelineText", { count: labels.length, of: seconds(of) }));
  drawSeconds(axis, of);
}

function row(name, hue, { edges, heights, events, of }) {
  const line = Object.assign(document.createElement("div"), { className: "timeline-row" });
  const label = Object.assign(document.createElement("span"), { className: "timeline-label", textContent: name });
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 8}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const x = (second) => ((WIDTH * second) / of).toFixed(1);
  const y = (probability) => (HEIGHT * (1 - probability)).toFixed(1);
  const steps = heights.map((height, index) => `L${x(edges[index])} ${y(height)}L${x(edges[index + 1])} ${y(height)}`);
  const outline = `M${x(edges[0])} ${HEIGHT}${steps.join("")}L${x(edges[edges.length - 1])} ${HEIGHT}Z`;
  drawing.append(shape("path", { d: outline, fill: hue, opacity: 0.6 }));
  drawing.append(shape("path", { d: `M0 ${HEIGHT}H${WIDTH}`, class: "timeline-base" }));
  for (const { start, end } of events) {
    drawing.append(shape("rect", { x: x(start), y: HEIGHT + 2, width: Math.max(2, x(end) - x(start)), height: 6, fill: hue }));
  }
  line.append(label, drawing);
  return line;
}

/** Write the events as a table; pressing one calls `play` with the second at which it begins. */
export function drawEvents(root, events, of, play) {
  if (!events.length) {
    root.replaceChildren(Object.assign(document.createElement("p"), { className: "hint", textContent: translate("noEvents") }));
    return;
  }
  const table = Object.assign(document.createElement("table"), { className: "events" });
  table.createCaption().textContent = translate("events");
  const head = table.createTHead().insertRow();
  for (const key of ["event", "from", "to", "probability"]) {
    head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: translate(key) }));
  }
  const body = table.createTBody();
  for (const { label, start, end, probability } of events) {
    const line = body.insertRow();
    const heard = button(label, () => play(start));
    heard.setAttribute("aria-label", translate("playEvent", { name: label, time: clock(start, of) }));
    line.insertCell().append(heard);
    for (const words of [clock(start, of), clock(end, of), `${(100 * probability).toFixed(0)} %`]) {
      line.insertCell().textContent = words;
    }
  }
  root.replaceChildren(table);
}

function shape(kind, attributes) {
  const made = document.createElementNS(DRAWING, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
