// Sending a case to the server; waits and tries again where the server is busy.

import { shown } from "./page.js";

const MAX_RETRIES = 6;
const tokenOf = (page) => page.querySelector("meta[name=csrf-token]")?.content;
let csrf = tokenOf(document);

/** Send a case on the terms given. Returns the answer, or the problem it met. */
export async function post(url, one, terms, signal) {
  let renewed = false;
  for (let attempt = 0; ; attempt += 1) {
    const headers = { Accept: "application/problem+json", "X-Fragment": "1" };
    if (csrf) headers["X-CSRF-Token"] = csrf;
    let response;
    try {
      response = await fetch(url, { method: "POST", headers, body: asFormData(one, terms), signal });
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

function asFormData(one, terms) {
  const data = new FormData();
  for (const file of one.files) data.append("image", file, shown(file.name));
  if (one.files.length > 1) data.append("lesion", "1");
  data.append("operating_point", terms.operating_point);
  data.append("prevalence", terms.prevalence);
  return data;
}

async function newToken() {
  const page = await fetch(location.pathname).then((response) => response.text()).catch(() => "");
  return tokenOf(new DOMParser().parseFromString(page, "text/html")) ?? csrf;
}
