// Requests to the service, and its responses.

import { translate} from "./words.js";

/** An error of the server, or of the connection to it, with a message in the user's language. */
export class Refusal extends Error {}

/** Return a number of bytes, for people. */
export const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`);

/** Talks to the server that this page came from. */
export class Service {
  /** Ask, and return the response; throws a Refusal. */
  async ask(path, options) {
    const response = await fetch(path, { method: "POST", ...options }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refusal(translate("unreachable"));
    });
    if (!response.ok) throw new Refusal(await refusal(response));
    return response;
  }

  async json(path, options) {
    return (await this.ask(path, options)).json();
  }

  /** Yield the records of a response of JSON Lines, as they come. */
  async *lines(path, options) {
    const reader = (await this.ask(path, options)).body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines) if (line.trim()) yield JSON.parse(line);
      if (done) return;
    }
  }
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? problem.title ?? response.statusText;
  const kinds = { AudioSpanError: "tooLong", LabelError: "refused", UsageError: "refused" };
  const keys = { 401: "denied", 413: "tooLong", 422: kinds[problem.error] ?? "damaged", 429: "crowded", 503: "crowded" };
  const key = keys[response.status] ?? (response.status < 500 ? "refused" : "failed");
  return translate(key, { detail, seconds: response.headers.get("Retry-After") ?? 1 });
}

/** Return a request about a recording and labels, or the set of that name, as a form. */
export function form(file, { labels, set }, fields = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null) body.append(name, value);
  if (set) body.append("label_set", set);
  else body.append("label_file", new File([toml(labels)], "labels.toml"));
  body.append("file", file, file.name);
  return body;
}

/** Return whether labels are words alone; others are sent as a label file. */
export const plain = (labels) => labels.every(({ name, prompts, hidden, threshold }) => !prompts && !hidden && threshold === undefined && !/[,，]/.test(name));

/** Return a text as a string of code: of JSON, JavaScript and Python, and of TOML, which alone minds one character more. */
export const json = (value) => JSON.stringify(value).replaceAll("\x7f", "\\u007f");

/** Return labels as a label file. */
export const toml = (labels) =>
  labels
    .map(({ name, prompts, threshold, hidden }) =>
      [
        "[[label]]",
        `name = ${json(name)}`,
        ...(prompts ? [`prompts = ${json(prompts)}`] : []),
        ...(threshold === undefined ? [] : [`threshold = ${threshold.toFixed(4)}`]),
        ...(hidden ? ["hidden = true"] : []),
        "",
      ].join("\n"),
    )
    .join("\n");
