// The field of an image input: a sheet to draw on, which also shows a picture chosen, dropped or pasted.

import { el } from "./dom.js";

const SIDE = 300;
const PEN = 22;

// A field as in form.js; besides, `getPicture()` gives {blob, name}: the file as it came, or the drawing.
export function createPicture(input, labelled, submit) {
  const canvas = el("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": `${input.name}: draw here` });
  const pen = canvas.getContext("2d");
  const empty = el("span", { class: "empty" }, "Draw here with the mouse or a finger, or drop or paste a picture");
  const sheet = el("div", { class: "picture" }, canvas, empty);
  const file = el("input", { type: "file", accept: "image/*" });
  let picture = null; // {blob, name} as it came; null while it is a drawing
  let drawn = false;

  const clear = () => {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, SIDE, SIDE);
    [picture, drawn, empty.hidden] = [null, false, false];
  };
  const beginDrawing = () => {
    if (picture) clear();
    drawn = empty.hidden = true;
  };
  const set = async (value, name = "") => {
    const blob = value instanceof Blob ? value : await fromBase64(value);
    clear();
    picture = { blob, name };
    empty.hidden = true;
    await show(pen, blob);
  };
  const take = async (blob) => {
    if (!blob) return;
    await set(blob, blob.name || "picture");
    submit();
  };
  const getPicture = async () => {
    if (picture) return picture;
    if (!drawn) throw new Error(`draw ${input.name} first, or choose a picture`);
    return { blob: await new Promise((done) => canvas.toBlob(done, "image/png")), name: "" };
  };
  const get = async () => (!picture && !drawn && !input.required ? null : { b64: await toBase64((await getPicture()).blob) });

  clear();
  draw(canvas, pen, beginDrawing, submit);
  accept(sheet, take);
  file.addEventListener("change", () => take(file.files[0]).finally(() => (file.value = "")));
  const most = input.max_pixels ? `up to ${input.max_pixels / 1e6} megapixels` : "";
  const element = labelled(input, file, [input.description, most], true);
  const choose = el("span", { class: "button small file" }, "Choose a picture", file);
  const wipe = el("button", { type: "button", class: "small", onclick: clear }, "Clear");
  element.querySelector("label").after(sheet, el("div", { class: "row" }, choose, wipe));
  return { input, element, get, set, getPicture };
}

function draw(canvas, pen, begin, finished) {
  let last = null;
  let timer;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const line = (to) => {
    pen.beginPath();
    pen.moveTo(...(last ?? to));
    pen.lineTo(...to);
    Object.assign(pen, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
    pen.stroke();
    last = to;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    clearTimeout(timer);
    begin();
    line(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last) for (const each of event.getCoalescedEvents?.() ?? [event]) line(place(each));
  });
  const end = () => {
    if (!last) return;
    last = null;
    timer = setTimeout(finished, 350); // a digit may take several strokes
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
}

function accept(sheet, take) {
  const image = (transfer) => [...(transfer?.files ?? [])].find((each) => each.type.startsWith("image/"));
  const over = (event) => {
    event.preventDefault();
    sheet.classList.toggle("over", event.type === "dragover");
  };
  sheet.addEventListener("dragover", over);
  sheet.addEventListener("dragleave", over);
  sheet.addEventListener("drop", (event) => {
    over(event);
    take(image(event.dataTransfer));
  });
  const paste = (event) => {
    if (!sheet.isConnected) document.removeEventListener("paste", paste);
    else if (image(event.clipboardData)) take(image(event.clipboardData));
  };
  document.addEventListener("paste", paste);
}

async function show(pen, blob) {
  try {
    const image = await createImageBitmap(blob);
    const scale = Math.min(SIDE / image.width, SIDE / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    pen.imageSmoothingEnabled = scale < 4;
    pen.drawImage(image, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  } catch {
    pen.fillStyle = "#6d6a64"; // the server may know a format that the browser does not
    pen.font = "15px system-ui";
    pen.textAlign = "center";
    pen.fillText("this picture cannot be shown", SIDE / 2, SIDE / 2);
  }
}

async function fromBase64(value) {
  const text = typeof value === "string" ? value : value.b64;
  const bytes = Uint8Array.from(atob(text.replace(/^data:[^,]*,/, "")), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

async function toBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
