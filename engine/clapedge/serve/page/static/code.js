// The request of the page as code for programs.

import { json, plain, toml } from "./service.js";
import { translate} from "./words.js";

/** The tabs with the code. */
export class Code {
  /** @param {HTMLElement} card holds tabs, code and the button that copies it */
  constructor(card) {
    Object.assign(this, { card, kind: "curl", asked: null });
    this.tabs = [...card.querySelectorAll("[data-snippet]")];
    this.at = (name) => card.querySelector(name);
    for (const tab of this.tabs) {
      tab.addEventListener("click", () => this.choose(tab));
      tab.addEventListener("keydown", (event) => this.move(event));
    }
    this.at("#copy").addEventListener("click", () => this.copy());
  }

  /** Show the code of a request. */
  show(asked) {
    this.asked = asked;
    this.card.hidden = false;
    this.choose(this.tabs.find((tab) => tab.dataset.snippet === this.kind));
  }

  choose(chosen) {
    this.kind = chosen.dataset.snippet;
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    this.at("#snippet-panel").setAttribute("aria-labelledby", chosen.id);
    this.at("#snippet-hint").textContent = "";
    this.at("#snippet").textContent = snippet(this.kind, this.asked);
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = this.tabs[(this.tabs.indexOf(event.target) + step + this.tabs.length) % this.tabs.length];
    next.focus();
    this.choose(next);
  }

  /** Copy the code; without a secure context a browser copies only what is selected. */
  async copy() {
    const code = this.at("#snippet");
    getSelection().selectAllChildren(code);
    if (navigator.clipboard) await navigator.clipboard.writeText(code.textContent).catch(() => document.execCommand("copy"));
    else document.execCommand("copy");
    this.at("#snippet-hint").textContent = translate("copied");
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the code of a request, by kind. */
function snippet(kind, { file, labels, set, fields, key }) {
  const asked = Object.entries(fields).filter(([, value]) => value !== null);
  const before = set || plain(labels) || kind === "python" ? "" : `cat > labels.toml <<'END'\n${toml(labels)}END\n`;
  return before + { curl, python, cli }[kind]({ file, labels, set, asked, key });
}

function curl({ file, labels, set, asked, key }) {
  // of what begins with @ or <, -F would send the file of that name
  const words = plain(labels) ? labels.map(({ name }) => `--form-string ${quoted(`labels=${name}`)}`) : ["-F label_file=@labels.toml"];
  return [
    `curl ${new URL("v1/score", document.baseURI)}`,
    ...(key ? ['-H "Authorization: Bearer $KEY"'] : []),
    `-F ${quoted(`file=@${file}`)}`,
    ...(set ? [`-F label_set=${set}`] : words),
    ...asked.map(([name, value]) => `-F ${name}=${value}`),
  ].join(" \\\n  ");
}

function cli({ file, labels, set, asked }) {
  const options = asked.map(([name, value]) => ` --${name} ${value}`).join("");
  const words = plain(labels) ? ` \\\n  ${labels.map(({ name }) => `-l ${quoted(name)}`).join(" ")}` : " --labels labels.toml";
  return `clapedge score ${quoted(file)}${options}${set ? ` --labels ${set}` : words}`;
}

function python({ file, labels, set, asked }) {
  const options = asked.map(([name, value]) => `, ${name}=${typeof value === "string" ? json(value) : value}`).join("");
  const words = set || !plain(labels) ? "" : `[\n${labels.map(({ name }) => `    ${json(name)},\n`).join("")}]`;
  const read = set ? `engine.stored_labels(${json(set)})` : `LabelSet.from_file("labels.toml")  # as under CLI`;
  return [
    `from clapedge import Engine${words || set ? "" : ", LabelSet"}`,
    "",
    "engine = Engine.load()  # or the directory of a bundle",
    `labels = ${words || read}`,
    `result = engine.score(${json(file)}, labels${options})`,
    "print(result.top.name, result.top.probability)",
  ].join("\n");
}
