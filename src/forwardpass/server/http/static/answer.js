// An answer for people: the label large, probabilities as bars, the rest as values, and the times.

import { el } from "./dom.js";

const percent = (value) => `${(value * 100).toFixed(value < 0.0995 && value > 0 ? 2 : 1)} %`;

export function showAnswer(panel, model, answer, exchange) {
  const prediction = answer.predictions[0];
  const [first] = model.outputs;
  const values = model.outputs.length === 1 ? { [first.name]: prediction } : { ...prediction };
  const shown = new Set();
  const label = headlineOf(values, shown);
  const bars = barsOf(values, label, shown);
  const rest = Object.entries(values).filter(([name]) => !shown.has(name));
  panel.replaceChildren(...[
    label ? headline(label) : null,
    bars ? barChart(bars) : null,
    rest.length ? valueList(rest) : null,
    times(exchange),
    curlLine(exchange.request.curl),
    whole(answer),
  ].filter(Boolean));
}

export function showError(panel, title, message, exchange) {
  panel.replaceChildren(
    el("p", { class: "error" }, el("b", {}, title), message),
    curlLine(exchange.request.curl));
}

// What the model says: its label, class or decision, with how sure it is where it tells.

function headlineOf(values, shown) {
  const entries = Object.entries(values);
  const isLabel = (value) => typeof value === "string" || Number.isInteger(value);
  const found = entries.find(([name, value]) => isLabel(value) && /label|class|decision/.test(name))
    ?? entries.find(([, value]) => typeof value === "string");
  const sure = entries.find(([name, value]) => typeof value === "number" && /(^|_)probability$/.test(name));
  if (!found) return null;
  shown.add(found[0]);
  if (sure) shown.add(sure[0]);
  return { text: String(found[1]), whole: Number.isInteger(found[1]), sure: sure && { name: sure[0], value: sure[1] } };
}

function headline(label) {
  const sure = label.sure && `${percent(label.sure.value)} ${label.sure.name === "probability" ? "" : label.sure.name.replaceAll("_", " ")}`;
  return el("div", { class: "headline" }, el("b", {}, label.text || "(empty)"), sure ? el("span", {}, sure) : null);
}

// Probabilities with their labels: named so (top_labels, top_probabilities), else numbered.

function barsOf(values, label, shown) {
  const lists = Object.entries(values).filter(([, value]) => Array.isArray(value) && value.length > 1);
  const chances = lists.find(([, list]) => list.every((x) => typeof x === "number" && x >= 0 && x <= 1)
    && list.reduce((sum, x) => sum + x, 0) < 1.02);
  if (!chances) return null;
  const [name, list] = chances;
  const names = lists.find(([, other]) => other.length === list.length && other.every((x) => typeof x === "string"));
  const highest = list.indexOf(Math.max(...list));
  if (!names && (list.length > 30 || !/prob/.test(name))) return null;
  for (const used of [name, names?.[0]]) shown.add(used);
  const title = (at) => (names ? names[1][at] : at === highest && label && !label.whole ? label.text : `class ${at}`);
  return list.map((value, at) => ({ name: title(at), value, highest: at === highest }));
}

function barChart(bars) {
  return el("div", { class: "bars" }, bars.flatMap(({ name, value, highest }) => {
    const fill = el("div", { class: highest ? "fill first" : "fill" });
    fill.style.width = `${value * 100}%`;
    return [
      el("span", { class: "name", title: name }, name),
      el("div", { class: "track" }, fill),
      el("span", { class: "value" }, percent(value)),
    ];
  }));
}

function valueList(entries) {
  const show = (value) => (typeof value === "string" ? value : JSON.stringify(value, rounded).replaceAll(",", ", "));
  return el("dl", { class: "values" }, entries.flatMap(([name, value]) => [
    el("dt", {}, name.replaceAll("_", " ")),
    el("dd", {}, show(value)),
  ]));
}

const rounded = (_, value) => (typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value);

function times({ timing, milliseconds }) {
  const stages = [...(timing ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, duration]) => [name, Number(duration)]);
  const item = ([name, duration]) => el("span", {}, `${name} `, el("b", {}, `${duration.toFixed(duration < 10 ? 2 : 0)} ms`));
  return el("div", { class: "times", "aria-label": "Times" }, [...stages, ["round trip", milliseconds]].map(item));
}

function curlLine(text) {
  const copy = el("button", { type: "button", class: "small" }, "Copy");
  const code = el("pre", { tabindex: 0, "aria-label": "The same request with curl" }, text);
  copy.addEventListener("click", async () => {
    copy.textContent = (await copyText(text, code)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  return el("div", { class: "curl" }, el("div", { class: "heading" }, el("h2", {}, "The same with curl"), copy), code);
}

async function copyText(text, element) {
  try {
    await navigator.clipboard.writeText(text); // only on localhost and https
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

function whole(answer) {
  return el("details", {}, el("summary", {}, "Whole answer"), el("pre", { tabindex: 0 }, JSON.stringify(answer, null, 2)));
}
