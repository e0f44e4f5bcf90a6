// The form of one model: a field per input, filled with the model's sample, and the request it makes.

import { el } from "./dom.js";
import { createPicture } from "./picture.js";

const MOST_ZEROS = 2048;
let count = 0;

// `send` gets {path, body, type, curl}; a field is {element, get(), set(value)}.
export function createForm(model, path, send) {
  const url = `v1/models/${path}:predict`;
  const button = el("button", { class: "go" }, "Predict");
  const problem = el("p", { class: "error", role: "alert", hidden: true });
  const form = el("form", { novalidate: true, autocomplete: "off" });
  const submit = () => form.requestSubmit();
  const fields = model.inputs.map((input) => createField(input, model, submit));
  const refill = el("button", { type: "button", onclick: () => fillIn(true) }, "Try the sample");
  const fillIn = async (andSend) => {
    await fillFromSample(model, path, fields).catch((error) => tell(problem, error.message));
    if (andSend) submit();
  };
  form.append(el("div", { class: "fields" }, fields.map((field) => field.element)), problem,
    el("div", { class: "row" }, button, model.has_sample ? refill : null));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      tell(problem, "");
      send({ path: url, ...(await createRequest(model, fields, url)) });
    } catch (error) {
      tell(problem, error.message);
    }
  });
  if (model.has_sample) fillIn(false);
  return form;
}

function tell(element, message) {
  element.textContent = message;
  element.hidden = !message;
}

function createField(input, model, submit) {
  if (input.type === "image") return createPicture(input, labelled, submit);
  if (input.type === "text") return createText(input, submit);
  if (input.type === "category") return createCategory(input);
  if (input.type === "number" && input.shape.length === 1) return createNumber(input);
  return createTensor(input, model.batched);
}

function createText(input, submit) {
  const control = el("textarea", { spellcheck: "false", rows: 4 });
  control.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  const most = input.max_length ? `at most ${input.max_length} characters` : "";
  return plain(input, control, [input.description, most], { wide: true });
}

function createNumber(input) {
  const control = el("input", { type: "number", step: "any", min: input.minimum, max: input.maximum });
  const between = input.minimum != null && input.maximum != null ? `${input.minimum} to ${input.maximum}`
    : input.minimum != null ? `from ${input.minimum}` : input.maximum != null ? `up to ${input.maximum}` : "";
  const field = plain(input, control, [input.description, between]);
  control.value = input.required ? String(Math.min(Math.max(0, input.minimum ?? 0), input.maximum ?? Infinity)) : "";
  return { ...field, get: () => (control.value === "" ? null : control.valueAsNumber) };
}

function createCategory(input) {
  if (!input.categories.length) return plain(input, el("input", { type: "text" }), [input.description]);
  const none = input.required ? [] : [el("option", { value: "" }, "not given")];
  const control = el("select", {}, none, input.categories.map((name) => el("option", { value: name }, name)));
  return plain(input, control, [input.description]);
}

function createTensor(input, batched) {
  const control = el("textarea", { class: "code", spellcheck: "false" });
  const row = batched || input.type === "number" ? input.shape.slice(1) : input.shape;
  const shape = row.length ? `[${row.map((size) => (size < 0 ? "any" : size)).join(", ")}]` : "one value";
  control.value = asText(zeros(row, input.datatype));
  const field = plain(input, control, [input.description, `${input.datatype} ${shape}, as JSON`], { wide: true });
  const get = () => {
    if (!control.value.trim() && !input.required) return null;
    try {
      return JSON.parse(control.value);
    } catch (error) {
      throw new Error(`${input.name} is not valid JSON: ${error.message}`);
    }
  };
  return { ...field, get, set: (value) => (control.value = asText(value)) };
}

function zeros(shape, datatype) {
  const sizes = shape.map((size) => (size < 0 ? 1 : size));
  if (sizes.reduce((product, size) => product * size, 1) > MOST_ZEROS) return undefined;
  const zero = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
  return sizes.reduceRight((inner, size) => Array.from({ length: size }, () => inner), zero);
}

// Short rows of numbers on one line each.
function asText(value) {
  if (value === undefined) return "";
  if (!Array.isArray(value) || !value.some(Array.isArray)) return JSON.stringify(value)?.replaceAll(",", ", ") ?? "";
  return `[\n${value.map((item) => asText(item)).join(",\n")}\n]`;
}

function plain(input, control, hints, { wide = false } = {}) {
  return {
    input,
    element: labelled(input, control, hints, wide),
    get: () => (control.value === "" && !input.required ? null : control.value),
    set: (value) => (control.value = value ?? ""),
  };
}

function labelled(input, control, hints, wide) {
  const id = `field-${++count}`;
  const text = [input.required ? "" : "optional", ...hints].filter(Boolean).join(" · ");
  control.id = id;
  if (text) control.setAttribute("aria-describedby", `${id}-hint`);
  return el("div", { class: wide ? "field wide" : "field" },
    el("label", { for: id }, input.name.replaceAll("_", " ")),
    control,
    text ? el("span", { class: "hint", id: `${id}-hint` }, text) : null);
}

// The sample, whatever it is written in, to values by input name: its first row.

async function fillFromSample(model, path, fields) {
  const answer = await fetch(`models/${path}/sample`);
  if (!answer.ok) throw new Error(`the sample cannot be read: ${answer.status}`);
  const only = fields.length === 1 ? fields[0] : null;
  if (model.sample_type.startsWith("image/")) return only?.set(await answer.blob(), "sample");
  const text = await answer.text();
  if (model.sample_type === "text/plain") return only?.set(text.trimEnd());
  const row = model.sample_type === "text/csv" ? firstLine(text, only) : JSON.parse(text).instances[0];
  const named = row && typeof row === "object" && !Array.isArray(row) && !("b64" in row) ? row : null;
  for (const field of fields) field.set(named ? named[field.input.name] : row);
}

function firstLine(text, only) {
  const [header, line] = text.split(/\r?\n/).map((each) => each.split(","));
  if (only && header.length > 1) return line.map(Number);
  return Object.fromEntries(header.map((name, index) => [name, line[index]]));
}

// The request: a raw body where the model takes one image or text, else JSON.

async function createRequest(model, fields, url) {
  const address = new URL(url, location).href;
  const [only] = fields;
  if (fields.length === 1 && only.input.type === "image") {
    const picture = await only.getPicture();
    return { body: picture.blob, type: picture.blob.type, curl: await curlPicture(picture, address, only) };
  }
  if (fields.length === 1 && only.input.type === "text") {
    const body = only.get() ?? "";
    return { body, type: "text/plain", curl: curl(address, "text/plain", body) };
  }
  const values = await Promise.all(fields.map(async (field) => [field.input.name, await field.get()]));
  const instance = fields.length === 1 ? values[0][1] : Object.fromEntries(values.filter(([, value]) => value !== null));
  const body = JSON.stringify({ instances: [instance] });
  return { body, type: "application/json", curl: curl(address, "application/json", body) };
}

const quote = (text) => (/^[\w@:/.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function curl(address, type, body) {
  return curlOf(address, type, quote(body.replace(/^@/, " @"))); // curl takes @ for the name of a file
}

function curlOf(address, type, data) {
  return `curl ${quote(address)} \\\n  -H 'content-type: ${type}' \\\n  --data-binary ${data}`;
}

async function curlPicture(picture, address, field) {
  const { blob, name } = picture;
  if (name === "sample") {
    const sample = address.replace("/v1/models/", "/models/").replace(/:predict$/, "/sample");
    return `curl -s ${quote(sample)} |\n${curlOf(address, blob.type, "@-")}`;
  }
  if (name) return curlOf(address, blob.type, quote(`@${name}`));
  return curl(address, "application/json", JSON.stringify({ instances: [await field.get()] }));
}
