// The list of models, and the panel of the chosen one. Which one stands in the address (#name).

import { showAnswer, showError } from "./answer.js";
import { el } from "./dom.js";
import { createForm } from "./form.js";

const list = document.getElementById("models");
const panel = document.getElementById("panel");
const STATES = { READY: "ready", LOADING: "loading", UNLOADING: "stopping", UNAVAILABLE: "not available" };
let models = [];
let shown = "";

// A model of one version goes by its name; else the version is in its path.
const isAlone = (model) => models.filter((other) => other.name === model.name).length === 1;
const pathOf = (model) => (isAlone(model) ? model.name : `${model.name}/versions/${model.version}`);
const titleOf = (model) => (isAlone(model) ? model.name : `${model.name} ${model.version}`);

async function refresh() {
  try {
    const answer = await fetch("models");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    models = (await answer.json()).models;
  } catch (error) {
    document.getElementById("summary").textContent = `no answer from the server (${error.message})`;
    setTimeout(refresh, 3000);
    return;
  }
  show();
  if (models.some((model) => model.state.endsWith("LOADING"))) setTimeout(refresh, 1000);
}

function show() {
  const ready = models.filter((model) => model.state === "READY").length;
  const count = models.length === 1 ? "1 model" : `${models.length} models`;
  document.getElementById("summary").textContent =
    ready === models.length ? `${count}, all ready` : `${count}, ${ready} ready`;
  const wanted = decodeURIComponent(location.hash.slice(1));
  const chosen = models.find((model) => pathOf(model) === wanted) ?? models[0];
  list.replaceChildren(...models.map((model) => link(model, model === chosen)));
  list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  const key = JSON.stringify(chosen ?? null);
  if (key === shown) return; // leave a form alone that somebody is using
  shown = key;
  document.title = chosen ? `${titleOf(chosen)} · Forwardpass` : "Forwardpass";
  panel.replaceChildren(chosen ? card(chosen) : el("p", { class: "muted" }, "No model is served."));
}

function link(model, current) {
  return el("a", { href: `#${encodeURIComponent(pathOf(model))}`, "aria-current": current ? "page" : null },
    el("span", { class: `dot ${model.state}`, role: "img", "aria-label": STATES[model.state] }),
    el("strong", {}, titleOf(model)),
    el("small", {}, model.state === "READY" ? model.description || takes(model) : model.reason));
}

const takes = (model) => `takes ${model.inputs.map((input) => input.name).join(", ")}`;

function card(model) {
  const about = model.description || (model.state === "READY" ? `A bare model; ${takes(model)}` : "");
  const head = [
    el("div", { class: "title" },
      el("h1", {}, model.name),
      el("span", { class: `pill ${model.state}` }, STATES[model.state]),
      el("span", { class: "pill" }, `version ${model.version}`)),
    about ? el("p", { class: "about" }, about) : null,
  ];
  if (model.state !== "READY") {
    const reason = el("p", { class: "error" }, el("b", {}, "It cannot answer now"), model.reason);
    return el("article", { class: "card" }, head, reason);
  }
  const answer = el("section", { class: "answer", "aria-live": "polite", "aria-label": "Answer" },
    el("p", { class: "blank" }, "The answer appears here."));
  const form = createForm(model, pathOf(model), (request) => predict(request, model, answer));
  return el("article", { class: "card" }, head, el("div", { class: "try" }, form, answer), inside(model));
}

async function predict(request, model, panel) {
  panel.classList.add("waiting");
  const { path, body, type } = request;
  const started = performance.now();
  try {
    const answer = await fetch(path, { method: "POST", body, headers: { "content-type": type } });
    const text = await answer.text();
    const exchange = { request, milliseconds: performance.now() - started, timing: answer.headers.get("server-timing") };
    if (answer.ok) showAnswer(panel, model, JSON.parse(text), exchange);
    else showError(panel, `${answer.status} ${answer.statusText}`, messageOf(text), exchange);
  } catch (error) {
    showError(panel, "No answer from the server", error.message, { request });
  }
  panel.classList.remove("waiting");
}

function messageOf(text) {
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text;
  }
}

function inside(model) {
  const shape = (tensor) => `${tensor.name}: ${tensor.datatype} [${tensor.shape.map((n) => (n < 0 ? "any" : n)).join(", ")}]`;
  const code = (text) => el("li", {}, el("code", {}, text));
  return el("details", {},
    el("summary", {}, "What happens inside"),
    el("ol", { class: "steps" },
      model.inputs.map((input) => code(shape(input))),
      model.preprocess.map(code),
      el("li", {}, "forward pass: ", el("code", {}, `${model.artifact} (${model.backend})`)),
      model.postprocess.map(code),
      model.outputs.map((output) => code(shape(output)))));
}

window.addEventListener("hashchange", () => {
  show();
  panel.focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
