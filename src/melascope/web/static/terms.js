// The terms of the answers: the operating point and the share of melanomas. They count when they are applied.

import { byId, fill, texts } from "./page.js";

const KEPT = "melascope-terms"; // in the tab's storage, for the page that is loaded next
const same = (one, other) => one.operating_point === other.operating_point && one.prevalence === other.prevalence;

/**
 * @param changed is called when other terms than before are applied
 * @returns now: the terms applied last; apply: takes what is typed, false where that is no share;
 *   current: whether terms are those that the form shows
 */
export function wireTerms(form, changed) {
  const { operating_point: point, prevalence } = form.elements;
  restore();
  check();
  form.addEventListener("input", check);
  const terms = { now: read(), apply, current: (others) => prevalence.validity.valid && same(others, read()) };
  return terms;

  function read() {
    const typed = prevalence.value.trim().replace(/\s*%$/, "");
    const told = fill(texts.terms.told, { point: point.selectedOptions[0].text, prevalence: typed || prevalence.placeholder });
    return { operating_point: point.value, prevalence: typed.replace(",", "."), told };
  }

  function apply() {
    if (!prevalence.checkValidity()) return false; // the note beside it says why
    if (same(read(), terms.now)) return true;
    terms.now = read();
    keep(terms.now);
    changed();
    return true;
  }

  /** What the operating point did where it was chosen; whether the share is one, and in which unit. */
  function check() {
    byId("point-told").textContent = point.selectedOptions[0].dataset.told;
    const typed = read().prevalence;
    const percent = /^(\d+\.?\d*|\.\d+)$/.test(typed) ? Number(typed) : NaN;
    prevalence.setCustomValidity(!typed || (percent >= 0.001 && percent <= 99.999) ? "" : texts.terms.prevalence_wrong);
    const number = (value) => value.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 4 });
    byId("prevalence-note").textContent = prevalence.validity.valid && percent < 1
      ? fill(texts.terms.prevalence_small, { percent: number(percent), of: number(Math.round(100 / percent)), instead: number(100 * percent) })
      : prevalence.validationMessage;
  }

  function restore() {
    const kept = JSON.parse(storage()?.getItem(KEPT) ?? "null");
    if (![...point.options].some((option) => option.value === kept?.operating_point)) return;
    point.value = kept.operating_point;
    prevalence.value = kept.prevalence;
  }
}

const keep = (terms) => storage()?.setItem(KEPT, JSON.stringify(terms));

function storage() {
  try {
    return sessionStorage;
  } catch { // the browser is told to keep nothing
    return null;
  }
}
