// The session's results as files, with the columns and keys of `melascope assess --format csv` and `json`. A row also tells
// the prevalence of its answer, its reasons by their codes, and the problem that kept it from an answer or a newer one.

const COLUMNS = ["image", "decision", "melanoma_probability", "melanoma_score", "operating_point", "threshold", "prediction_set"];

/** Text that no spreadsheet takes for a formula, at its start or behind what some take for the next cell's. */
const harmless = (text) => text.replace(/(^|[;\t\r\n])(?=\s*[=+\-@＝＋－＠])/g, "$1'");
const cell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function toCsv(cases) {
  const answered = cases.filter((one) => one.json);
  const classes = Object.keys(answered[0]?.json.prevalence ?? {});
  const header = [...COLUMNS, ...classes.map((name) => `probability_${name}`), "bundle_id", "sha256", "reasons",
                  "reason_codes", "melanoma_prevalence", "problem"];
  const rows = cases.filter((one) => one.article).map((one) => {
    const told = one.json;
    const why = told && [...told.reasons, ...told.images.flatMap((image) => image.quality)];
    if (!told) return [harmless(one.name), ...Array(header.length - 2).fill(""), one.problem.code];
    return [
      harmless(told.images.map((image) => image.name).join(", ")), told.decision, told.melanoma_probability,
      told.melanoma_score, told.operating_point, told.threshold, told.prediction_set?.diagnoses.join(" "),
      ...classes.map((name) => told.probabilities?.[name]), told.bundle_id,
      told.images.map((image) => image.sha256).join(" "),
      harmless(why.map((reason) => reason.text).join(" ")), why.map((reason) => reason.code).join(" "),
      told.prevalence.MEL, one.problem?.code,
    ];
  });
  const text = [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
  return new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" }); // the mark tells spreadsheets that it is UTF-8
}

export function toJson(cases) {
  const answered = cases.filter((one) => one.json).map((one) => one.json);
  const problems = cases.filter((one) => one.problem).map((one) => ({
    name: one.name, code: one.problem.code, message: one.problem.detail ?? null, remedy: one.problem.remedy ?? null,
  }));
  const whole = { bundle_id: answered[0]?.bundle_id ?? null, assessments: answered, problems };
  return new Blob([JSON.stringify(whole, null, 2)], { type: "application/json" });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
