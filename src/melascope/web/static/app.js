// The page's one task: files in, four requests at a time, results as they come, the riskiest first.
// The server makes every number and sentence; here they are only fetched, ordered and kept until the page closes.

import { openCamera, wireCamera } from "./camera.js";
import { save, toCsv, toJson } from "./export.js";
import { wireCase } from "./viewer.js";

const AT_ONCE = 4;
const MAX_RETRIES = 6;
const NO_ANSWER = -1; // urgency of a file without an answer: before every decision

const texts = JSON.parse(document.getElementById("texts").textContent);
const tokenOf = (page) => page.querySelector("meta[name=csrf-token]")?.content;
const byId = (id) => document.getElementById(id);
const form = byId("ask");
// As the server shows names: nothing that turns text around or hides it.
const shown = (name) => name.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\uFFFD");
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** One lesion that was asked about: its files, and what came of them. */
const cases = [];
let csrf = tokenOf(document);
let batch = 0; // files that came together
let chosenByHand = false;
let selected = null;
let running = 0;
let stop = new AbortController();
let order = { key: "urgency", descending: false };
let drawing = false;

// --- asking ------------------------------------------------------------------------------------------------

function add(files) {
  const list = [...files];
  if (!list.length) return;
  batch += 1;
  chosenByHand = false;
  const groups = byId("lesion").checked ? [list] : list.map((file) => [file]);
  for (const group of groups) {
    cases.push({ files: group, batch, urls: group.map((file) => URL.createObjectURL(file)), state: "waiting",
                 name: group.map((file) => shown(file.name)).join(", "), article: null, row: null, json: null });
  }
  document.body.classList.add("has-results");
  byId("results").hidden = false;
  draw();
  work();
}

function work() {
  while (running < AT_ONCE) {
    const next = cases.find((one) => one.state === "waiting");
    if (!next) break;
    next.state = "asking";
    running += 1;
    ask(next, stop.signal).finally(() => { running -= 1; work(); });
  }
}

function asFormData(one) {
  const data = new FormData();
  for (const file of one.files) data.append("image", file, shown(file.name));
  if (one.files.length > 1) data.append("lesion", "1");
  data.append("operating_point", form.elements.operating_point.value);
  data.append("prevalence", form.elements.prevalence.value);
  return data;
}

/** Send a case; waits and tries again where the server is busy. Returns the answer, or the problem it met. */
async function post(url, one, signal) {
  let renewed = false;
  for (let attempt = 0; ; attempt += 1) {
    const headers = { Accept: "application/problem+json", "X-Fragment": "1" };
    if (csrf) headers["X-CSRF-Token"] = csrf;
    let response;
    try {
      response = await fetch(url, { method: "POST", headers, body: asFormData(one), signal });
    } catch (fault) {
      if (signal.aborted) throw fault;
      return { problem: { code: "network" } };
    }
    if (response.ok) return { response };
    if ([429, 503].includes(response.status) && attempt < MAX_RETRIES && response.headers.has("Retry-After")) {
      const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, 30);
      await new Promise((resolve) => { setTimeout(resolve, 1000 * seconds * (1 + Math.random() / 2)); });
      if (signal.aborted) throw signal.reason;
      continue;
    }
    if (response.status === 403 && csrf && !renewed) { // signed in anew in another tab
      renewed = true;
      csrf = await newToken();
      continue;
    }
    const problem = await response.json().catch(() => ({ code: "other" }));
    return { problem: response.status === 401 ? { code: "signed-out" } : problem };
  }
}

async function newToken() {
  const page = await fetch(location.pathname).then((response) => response.text()).catch(() => "");
  return tokenOf(new DOMParser().parseFromString(page, "text/html")) ?? csrf;
}

async function ask(one, signal) {
  try {
    const { response, problem } = await post(form.action, one, signal);
    const html = response && (await response.text());
    if (signal.aborted) return;
    if (problem) fail(one, problem);
    else answer(one, html);
  } catch (fault) {
    if (!signal.aborted) throw fault;
    return; // the terms changed, or all was cleared
  }
  settle(one);
}

function answer(one, html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const article = holder.content.querySelector("article");
  one.json = JSON.parse(article.querySelector("script.assessment").textContent);
  if (one.label && one.label !== article.dataset.decisionLabel) {
    const changed = article.querySelector(".changed");
    changed.hidden = false;
    changed.textContent = fill(texts.results.changed, { decision: one.label });
  }
  Object.assign(one, {
    state: "done", article, problem: null, decision: article.dataset.decision, label: article.dataset.decisionLabel,
    probability: article.dataset.probability, urgency: Number(article.dataset.urgency), note: article.dataset.note,
    score: article.dataset.score === "" ? -1 : Number(article.dataset.score),
  });
  wireCase(article, one.urls);
  one.preview = article.querySelector("img.shot[src^='data:']")?.src ?? one.urls[0];
  const report = article.querySelector(".report");
  report.hidden = false;
  report.addEventListener("click", () => download(one, report));
}

function fail(one, problem) {
  const article = byId("failure").content.firstElementChild.cloneNode(true);
  const text = texts.error[problem.code] ?? texts.error.other;
  article.querySelector("h3 bdi").textContent = one.name;
  article.querySelector(".failure-text").textContent = text;
  if (problem.detail) {
    const details = article.querySelector(".failure-details");
    details.hidden = false;
    details.querySelector("p").textContent = [problem.detail, problem.remedy].filter(Boolean).join(" ");
  }
  article.querySelector(".sign-in").hidden = problem.code !== "signed-out";
  article.querySelector(".retry").addEventListener("click", () => {
    Object.assign(one, { state: "waiting", batch: (batch += 1) });
    chosenByHand = false;
    draw();
    work();
  });
  Object.assign(one, { state: "failed", article, problem, json: null, decision: "failed", label: texts.results.failed,
                       probability: "", urgency: NO_ANSWER, note: text, score: -1, preview: one.urls[0] });
}

function settle(one) {
  const peers = cases.filter((other) => other.batch === one.batch);
  const open = peers.filter(isOpen);
  if (!chosenByHand && (!selected?.json || selected.batch !== batch || open.length === 0)) {
    peers.sort(byUrgency);
    select(open.length ? one : (peers.find((other) => other.json) ?? peers[0]));
  } else if (selected === one) {
    select(one);
  }
  if (peers.length === 1) announce(inShort(one));
  else if (!open.length) announce(progressText());
  if (peers.length === 1 || !open.length) reveal();
  draw();
}

/** The answer comes into sight; the focus stays where it is. */
function reveal() {
  if (byId("results").getBoundingClientRect().top > innerHeight * 0.4) glideTo(byId("results"));
}

function glideTo(element) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

async function download(one, button) {
  button.disabled = true;
  try {
    const { response, problem } = await post(form.dataset.report, one, stop.signal);
    if (problem) announce(texts.error[problem.code] ?? texts.error.other);
    else save(await response.blob(), `${one.name.replace(/\.[^.]*$/, "").slice(0, 80)}.pdf`);
  } catch (fault) {
    if (!stop.signal.aborted) throw fault;
  } finally {
    button.disabled = false;
  }
}

/** What the chosen operating point did where it was chosen; whether the share of melanomas is one, and in which unit. */
function checkTerms() {
  const { operating_point: point, prevalence } = form.elements;
  byId("point-told").textContent = point.selectedOptions[0].dataset.told;
  const typed = prevalence.value.trim().replace(/\s*%$/, "").replace(",", ".");
  const percent = /^(\d+\.?\d*|\.\d+)$/.test(typed) ? Number(typed) : NaN;
  prevalence.setCustomValidity(!typed || (percent > 0 && percent < 100) ? "" : texts.terms.prevalence_wrong);
  const number = (value) => value.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 4 });
  byId("prevalence-note").textContent = percent > 0 && percent < 1
    ? fill(texts.terms.prevalence_small, { percent: number(percent), of: number(Math.round(100 / percent)), instead: number(100 * percent) })
    : prevalence.validationMessage;
}

function askAgain() {
  if (!form.elements.prevalence.reportValidity()) return;
  if (!cases.length) return;
  stop.abort();
  stop = new AbortController();
  for (const one of cases) one.state = "waiting";
  selected?.article?.setAttribute("aria-busy", "true");
  announce(texts.terms.new_terms);
  cases.sort((one, other) => (other === selected) - (one === selected)); // what is looked at comes first
  draw();
  work();
}

function clear() {
  stop.abort();
  stop = new AbortController();
  for (const one of cases) one.urls.forEach((url) => URL.revokeObjectURL(url));
  cases.length = 0;
  selected = null;
  byId("cases").replaceChildren();
  byId("results").hidden = true;
  document.body.classList.remove("has-results");
  byId("files").focus();
}

// --- showing -----------------------------------------------------------------------------------------------

const isOpen = (one) => one.state === "waiting" || one.state === "asking";
const announce = (text) => { byId("announce").textContent = text; };

const inShort = (one) => `${one.name}: ${[one.label, one.probability].filter(Boolean).join(", ")}`;

function progressText() {
  return fill(texts.results.progress, { done: cases.filter((one) => !isOpen(one)).length, total: cases.length });
}

const byName = (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true });
const byUrgency = (one, other) =>
  (isOpen(one) && !one.article) - (isOpen(other) && !other.article) ||
  (one.urgency ?? 0) - (other.urgency ?? 0) || (other.score ?? 0) - (one.score ?? 0) || byName(one, other);
const orders = {
  urgency: byUrgency,
  name: byName,
  probability: (one, other) => (other.score ?? -2) - (one.score ?? -2) || byName(one, other),
};

function ordered() {
  const list = [...cases].sort(orders[order.key]);
  return order.descending ? list.reverse() : list;
}

function select(one, { byHand = false } = {}) {
  selected = one;
  chosenByHand ||= byHand;
  if (one.article && !one.article.isConnected) byId("cases").replaceChildren(one.article);
  if (byHand && one.article) {
    announce(inShort(one));
    if (one.article.getBoundingClientRect().top > innerHeight * 0.6) glideTo(byId("pager"));
  }
  draw();
}

/** Bring overview, pager and progress up to date, once a frame. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const list = ordered();
    const many = cases.length > 1;
    byId("overview").hidden = !many;
    byId("pager").hidden = !many;
    if (many) showRows(list.map(row));
    const at = list.indexOf(selected);
    byId("position").textContent = fill(texts.results.position, { n: at + 1, total: list.length });
    byId("previous").disabled = at <= 0;
    byId("next").disabled = at < 0 || at >= list.length - 1;
    const open = cases.filter(isOpen).length;
    byId("progress").hidden = open === 0;
    byId("progress-bar").max = cases.length;
    byId("progress-bar").value = cases.length - open;
    byId("progress-text").textContent = progressText();
    for (const id of ["save-csv", "save-json"]) byId(id).disabled = !cases.some((one) => one.article);
  });
}

/** Put the rows in their order; a row that has the focus keeps it. */
function showRows(rows) {
  const body = byId("rows");
  if (rows.length === body.children.length && rows.every((one, n) => one === body.children[n])) return;
  const focused = document.activeElement;
  body.replaceChildren(...rows);
  if (body.contains(focused)) focused.focus({ preventScroll: true });
}

function row(one) {
  if (!one.row) {
    one.row = byId("row").content.firstElementChild.cloneNode(true);
    one.row.querySelector(".row-name").textContent = one.name;
    one.row.addEventListener("click", () => select(one, { byHand: true }));
    const thumb = one.row.querySelector(".thumb");
    thumb.addEventListener("error", () => thumb.classList.add("unseen"));
    thumb.addEventListener("load", () => thumb.classList.remove("unseen"));
  }
  const done = Boolean(one.article);
  const thumb = one.row.querySelector(".thumb");
  if (done && one.shown !== one.preview) thumb.src = one.shown = one.preview;
  const badge = one.row.querySelector(".badge");
  badge.className = `badge ${done ? one.decision : "waiting"}`;
  badge.textContent = done ? one.label : "…";
  one.row.querySelector(".row-probability").textContent = one.probability ?? "";
  one.row.querySelector(".row-note").textContent = one.note ?? "";
  one.row.toggleAttribute("aria-busy", isOpen(one));
  if (one === selected) one.row.setAttribute("aria-current", "true");
  else one.row.removeAttribute("aria-current");
  return one.row;
}

function sortBy(button) {
  const key = button.dataset.sort;
  order = { key, descending: order.key === key && !order.descending };
  for (const header of document.querySelectorAll("#overview th[aria-sort]")) {
    const own = header.contains(button);
    header.setAttribute("aria-sort", own ? (order.descending ? "descending" : "ascending") : "none");
  }
  draw();
}

function step(by) {
  const list = ordered();
  const next = list[list.indexOf(selected) + by];
  if (next) select(next, { byHand: true });
  selected?.row?.scrollIntoView({ block: "nearest" });
}

// --- wiring ------------------------------------------------------------------------------------------------

const images = (transfer) => [...transfer.files].filter((file) => file.size > 0 || file.type !== "");
let depth = 0; // dragenter and dragleave come for every element that is crossed

form.addEventListener("submit", (event) => event.preventDefault());
for (const input of [byId("files"), byId("capture")]) {
  input.addEventListener("change", () => { add(input.files); input.value = ""; });
}
form.addEventListener("input", checkTerms);
for (const name of ["operating_point", "prevalence"]) form.elements[name].addEventListener("change", askAgain);
checkTerms(); // browsers keep what was typed when the page is loaded anew
form.elements.prevalence.addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });

addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  depth += 1;
  form.classList.add("dragging");
});
addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) form.classList.remove("dragging"); });
addEventListener("dragover", (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  depth = 0;
  form.classList.remove("dragging");
  add(images(event.dataTransfer));
});
addEventListener("paste", (event) => {
  const files = images(event.clipboardData);
  if (!files.length) return;
  event.preventDefault();
  add(files);
});

byId("rows").closest("table").querySelectorAll("[data-sort]").forEach((button) => {
  button.addEventListener("click", () => sortBy(button));
});
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("clear").addEventListener("click", clear);
byId("save-csv").addEventListener("click", () => save(toCsv(ordered()), "melascope.csv"));
byId("save-json").addEventListener("click", () => save(toJson(ordered()), "melascope.json"));

wireCamera(add, { refused: texts.camera.refused, several: () => byId("lesion").checked, taken: texts.camera.taken });
byId("camera-open").addEventListener("click", openCamera);
