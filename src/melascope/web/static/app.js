// The page's one task: files in, four requests at a time, results as they come, the riskiest first.
// The server makes every number and sentence; here they are only fetched, ordered and kept until the page closes.

import { post } from "./asking.js";
import { openCamera, wireCamera } from "./camera.js";
import { save, toCsv, toJson } from "./export.js";
import { announce, byId, fill, shown, stamp, texts } from "./page.js";
import { wireTerms } from "./terms.js";
import { applyOpacity, wireCase } from "./viewer.js";

const AT_ONCE = 4;

const form = byId("ask");

/** One lesion that was asked about: its files, and what came of them. */
const cases = [];
const held = []; // what came while the share of melanomas was no share
let batch = 0; // files that came together
let chosenByHand = false;
let selected = null;
let running = 0;
let stop = new AbortController();
let order = { key: "urgency", reversed: false };
let drawing = false;

// --- asking ------------------------------------------------------------------------------------------------

function add(files) {
  const list = [...files];
  if (!list.length) return;
  held.push(byId("lesion").checked ? [list] : list.map((file) => [file]));
  byId("lesion").checked = false; // it was said of these photographs, not of the next
  begin();
}

/** Apply the terms and begin with what is held; nothing is asked on terms that cannot be. */
function begin() {
  if (terms.apply()) held.splice(0).forEach(open);
  const waiting = held.flat(2).length;
  byId("held").textContent = waiting ? fill(texts.terms.held, { n: waiting }) : "";
  draw();
}

function open(groups) {
  batch += 1;
  chosenByHand = false;
  for (const group of groups) {
    cases.push({ files: group, batch, urls: group.map((file) => URL.createObjectURL(file)), state: "waiting",
                 name: nameOf(group), article: null, row: null, json: null });
  }
  document.body.classList.add("has-results");
  byId("results").hidden = false;
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

async function ask(one, signal) {
  const asked = terms.now;
  try {
    const { response, problem } = await post(form.action, one, asked, signal);
    const html = response && (await response.text());
    if (signal.aborted) return;
    if (problem) fail(one, problem);
    else answer(one, html, asked);
  } catch (fault) {
    if (!signal.aborted) throw fault;
    return; // the terms changed, or all was cleared
  }
  settle(one);
}

function answer(one, html, asked) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const article = holder.content.querySelector("article");
  if (one.json && one.label !== article.dataset.decisionLabel) {
    const changed = article.querySelector(".changed");
    changed.hidden = false;
    changed.textContent = fill(texts.results.changed, { decision: one.label });
  }
  article.querySelector(".case-head").after(byId("earlier").content.cloneNode(true));
  wireRetry(article, one);
  one.json = JSON.parse(article.querySelector("script.assessment").textContent);
  Object.assign(one, {
    state: "done", terms: asked, article, problem: null, decision: article.dataset.decision, label: article.dataset.decisionLabel,
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
  Object.assign(one, { state: "failed", problem });
  if (one.json) return one.article.removeAttribute("aria-busy"); // the answer of the earlier terms stays, and says so
  const article = byId("failure").content.firstElementChild.cloneNode(true);
  const bad = one.files.filter((file) => problem.detail?.startsWith(`${shown(file.name)}: `));
  const text = (one.files.length > 1 && bad.length ? `${shown(bad[0].name)}: ` : "") + inWords(problem);
  article.querySelector("h3 bdi").textContent = one.name;
  article.querySelector(".failure-text").textContent = text;
  if (problem.detail) {
    const details = article.querySelector(".failure-details");
    details.hidden = false;
    details.querySelector("p").textContent = [problem.detail, problem.remedy].filter(Boolean).join(" ");
  }
  article.querySelector(".sign-in").hidden = problem.code !== "signed-out";
  article.querySelector(".retry").hidden = !canBeRetried(one);
  wireRetry(article, one);
  wireWithout(article, one, bad);
  Object.assign(one, { article, decision: "failed", label: texts.results.failed, probability: "", note: text, score: -1,
                       urgency: Number(article.dataset.urgency), preview: one.urls[0] });
}

function wireRetry(article, one) {
  article.querySelector(".retry").addEventListener("click", () => retry([one]));
}

/** A photograph that cannot be read need not cost the others of its lesion their answer, if it is clear which it is. */
function wireWithout(article, one, bad) {
  const kept = one.files.filter((file) => !bad.includes(file));
  const button = article.querySelector(".without");
  button.hidden = canBeRetried(one) || bad.length !== 1 || !kept.length;
  button.addEventListener("click", () => {
    one.urls = one.urls.filter((url, n) => kept.includes(one.files[n]) || URL.revokeObjectURL(url));
    Object.assign(one, { files: kept, name: nameOf(kept) });
    one.row?.querySelector(".row-name").replaceChildren(one.name);
    retry([one]);
  });
}

function retry(list) {
  if (!terms.apply()) return;
  batch += 1;
  chosenByHand = false;
  for (const one of list) if (!isOpen(one)) Object.assign(one, { state: "waiting", batch });
  draw();
  work();
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
  button.parentElement.querySelector(".fault")?.remove();
  try {
    const { response, problem } = await post(form.dataset.report, one, one.terms, stop.signal);
    if (problem) button.after(reportFault(problem));
    else save(await response.blob(), `${one.name.replace(/\.[^.]*$/, "").slice(0, 80)}.pdf`);
  } catch (fault) {
    if (!stop.signal.aborted) throw fault;
  } finally {
    button.disabled = false;
  }
}

function reportFault(problem) {
  const fault = byId("report-fault").content.firstElementChild.cloneNode(true);
  fault.querySelector("span").textContent = `${texts.results.no_report} ${inWords(problem)}`;
  fault.querySelector(".sign-in").hidden = problem.code !== "signed-out";
  return fault;
}

/** Other terms: everything is asked anew. */
function askAgain() {
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

const nameOf = (files) => files.map((file) => shown(file.name)).join(", ");
const isOpen = (one) => one.state === "waiting" || one.state === "asking";
const inWords = (problem) => texts.error[problem.code] ?? texts.error.other;
const canBeRetried = (one) => one.problem && !/^(image|usage)/.test(one.problem.code); // the file is not to blame
const inShort = (one) =>
  `${one.name}: ${one.problem ? inWords(one.problem) : [one.label, one.probability].filter(Boolean).join(", ")}`;

function progressText() {
  return fill(texts.results.progress, { done: cases.filter((one) => !isOpen(one)).length, total: cases.length });
}

const byName = (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true });
const lastIf = (test) => (one, other) => test(one) - test(other);
const unasked = lastIf((one) => !one.article);
const unknown = lastIf((one) => (one.score ?? -1) < 0);
const byUrgency = (one, other) => unasked(one, other) || (one.urgency ?? 0) - (other.urgency ?? 0) || byScore(one, other);
const byScore = (one, other) => (other.score ?? -1) - (one.score ?? -1) || byName(one, other);
/** How each column sorts, the way it sorts at first, and what stands last either way. */
const orders = {
  urgency: { by: byUrgency, first: "descending", last: unasked },
  name: { by: byName, first: "ascending", last: () => 0 },
  probability: { by: byScore, first: "descending", last: unknown },
};

function ordered() {
  const { by, last } = orders[order.key];
  return [...cases].sort((one, other) => last(one, other) || (order.reversed ? by(other, one) : by(one, other)));
}

function select(one, { byHand = false } = {}) {
  selected = one;
  chosenByHand ||= byHand;
  if (one.article && !one.article.isConnected) {
    applyOpacity(one.article);
    byId("cases").replaceChildren(one.article);
  }
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
    for (const one of cases) one.earlier = Boolean(one.json) && !terms.current(one.terms);
    showTerms();
    const many = cases.length > 1;
    byId("overview").hidden = !many;
    byId("pager").hidden = !many;
    if (many) showRows(list.map(row));
    const at = list.indexOf(selected);
    byId("position").textContent = fill(texts.results.position, { n: at + 1, total: list.length });
    able(byId("previous"), at > 0, byId("next"));
    able(byId("next"), at >= 0 && at < list.length - 1, byId("previous"));
    const unanswered = cases.filter((one) => !isOpen(one) && (one.score ?? -1) < 0).length;
    byId("unanswered").textContent = many && unanswered
      ? fill(texts.results.unanswered, { n: unanswered, total: cases.length }) : "";
    const open = cases.filter(isOpen).length;
    byId("progress").hidden = open === 0;
    byId("progress-bar").max = cases.length;
    byId("progress-bar").value = cases.length - open;
    byId("progress-text").textContent = progressText();
    for (const id of ["save-csv", "save-json"]) byId(id).disabled = !cases.some((one) => one.article);
  });
}

/** Switch a button on or off; the focus goes to its neighbour rather than get lost. */
function able(button, on, neighbour) {
  const focused = document.activeElement === button;
  button.disabled = !on;
  if (!on && focused) { neighbour.disabled = false; neighbour.focus(); }
}

/** Which terms the answers are of, and which answers are of others than the form shows. */
function showTerms() {
  byId("terms-told").textContent = terms.now.told;
  const without = cases.filter((one) => !isOpen(one) && (one.earlier || canBeRetried(one)));
  byId("not-present").hidden = !without.length;
  const others = new Set(without.filter((one) => one.earlier).map((one) => one.terms.told));
  byId("not-present-text").textContent = fill(texts.results.not_present, { n: without.length, total: cases.length })
    + (others.size ? ` ${texts.results.earlier_tag}: ${[...others].join(" / ")}.` : "");
  byId("retry-all").hidden = !without.some(canBeRetried);
  if (!selected?.json) return;
  const note = selected.article.querySelector(".earlier");
  const { problem } = selected;
  note.hidden = !selected.earlier;
  note.querySelector(".earlier-text").textContent =
    [fill(texts.results.earlier, { terms: selected.terms.told }), problem && inWords(problem)].filter(Boolean).join(" ");
  note.querySelector(".sign-in").hidden = problem?.code !== "signed-out";
  note.querySelector(".retry").hidden = !problem;
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
  one.row.querySelector(".earlier-tag").hidden = !one.earlier;
  one.row.querySelector(".row-probability").textContent = one.probability ?? "";
  one.row.querySelector(".row-note").textContent = one.note ?? "";
  one.row.toggleAttribute("aria-busy", isOpen(one));
  if (one === selected) one.row.setAttribute("aria-current", "true");
  else one.row.removeAttribute("aria-current");
  return one.row;
}

function sortBy(button) {
  const key = button.dataset.sort;
  order = { key, reversed: order.key === key && !order.reversed };
  const { first } = orders[key];
  const way = order.reversed ? { ascending: "descending", descending: "ascending" }[first] : first;
  for (const header of document.querySelectorAll("#overview th[aria-sort]")) {
    const own = header.contains(button);
    header.setAttribute("aria-sort", own ? way : "none");
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

/** Browsers call whatever is pasted image.png. */
const pasted = (file) =>
  /^image\.\w+$/.test(file.name) ? new File([file], file.name.replace("image", `pasted-${stamp()}`), { type: file.type }) : file;
const images = (transfer) => [...transfer.files].filter((file) => file.size > 0 || file.type !== "");
let leaving = false; // it was said that the results may go
let depth = 0; // dragenter and dragleave come for every element that is crossed

form.addEventListener("submit", (event) => event.preventDefault());
for (const input of [byId("files"), byId("capture")]) {
  input.addEventListener("change", () => { add(input.files); input.value = ""; });
}
const terms = wireTerms(form, askAgain);
form.addEventListener("input", draw);
for (const name of ["operating_point", "prevalence"]) form.elements[name].addEventListener("change", begin);
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
  add(files.map(pasted));
});
for (const link of document.querySelectorAll(".languages a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || !(cases.length || held.length)) return; // nothing is lost
    leaving = confirm(texts.results.leave);
    if (!leaving) event.preventDefault();
  });
}

byId("rows").closest("table").querySelectorAll("[data-sort]").forEach((button) => {
  button.addEventListener("click", () => sortBy(button));
});
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("clear").addEventListener("click", clear);
byId("retry-all").addEventListener("click", () => retry(cases.filter(canBeRetried)));
addEventListener("beforeunload", (event) => { if (!leaving && (cases.length || held.length)) event.preventDefault(); });
byId("save-csv").addEventListener("click", () => save(toCsv(ordered()), "melascope.csv"));
byId("save-json").addEventListener("click", () => save(toJson(ordered()), "melascope.json"));

wireCamera(add, { refused: texts.camera.refused, several: () => byId("lesion").checked, taken: texts.camera.taken });
byId("camera-open").addEventListener("click", openCamera);
