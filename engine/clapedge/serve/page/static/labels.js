// The labels as tags: typed, taken from a set, edited, removed.

import { language, translate} from "./words.js";

const SEPARATORS = /[,，、;；\n]/;
/** What a word becomes where its label has no prompts. */
export const framed = (words) => `This is a sound of ${words}.`;

const DESCRIBED = /^([^=＝]+)[=＝](.+)$/;

/** The labels that are being written, as {name, prompts?, threshold?, hidden?}, and how they are shown. */
export class Tags {
  /**
   * @param {HTMLElement} list where the tags stand
   * @param {HTMLFormElement} form the field for a new one
   * @param {Object[]} glossary words of which the page knows the English: {en, zh}
   * @param {boolean} fixed whether labels come only in sets, since the model has no text tower
   * @param {Function} changed is called after each change
   */
  constructor(list, form, { glossary: known, fixed }, changed) {
    Object.assign(this, { list, form, fixed, changed, labels: [] });
    form.hidden = fixed;
    this.field = form.querySelector("input");
    this.english = new Map(known.flatMap(({ en, zh }) => zh.map((word) => [word, en])));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.take(this.field.value, true);
    });
    this.field.addEventListener("input", () => {
      if (SEPARATORS.test(this.field.value)) this.take(this.field.value, false);
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Backspace" && !this.field.value && this.labels.length) this.remove(this.labels.length - 1);
    });
    form.querySelector("datalist").replaceChildren(
      ...known.flatMap(({ en, zh }) => [en, ...zh]).map((word) => Object.assign(document.createElement("option"), { value: word })),
    );
  }

  /** Add what a text names; the part behind its last comma stays in the field unless all of it is meant. */
  take(text, all) {
    const words = text.split(SEPARATORS);
    this.field.value = all ? "" : words.pop().trimStart();
    this.add(words.map((word) => this.parse(word)).filter(Boolean));
  }

  /** Return the label that a word means, or null. */
  parse(word) {
    const text = word.trim();
    const described = DESCRIBED.exec(text);
    if (described) return { name: described[1].trim(), prompts: [described[2].trim()] };
    if (!text) return null;
    const english = this.english.get(text);
    return english ? { name: text, prompts: [framed(english)] } : { name: text };
  }

  /** Return the labels with what stands in the field as the last one: what is being typed is meant too. */
  pending() {
    const typed = this.parse(this.field.value);
    return typed ? [...this.labels.filter(({ name }) => name !== typed.name), typed] : this.labels;
  }

  add(labels) {
    const names = new Set(labels.map(({ name }) => name));
    this.set([...this.labels.filter(({ name }) => !names.has(name)), ...labels]);
  }

  set(labels) {
    this.labels = labels;
    this.draw();
    this.changed();
  }

  remove(index) {
    this.set(this.labels.filter((_, other) => other !== index));
    (this.list.querySelectorAll(".remove")[Math.max(0, index - 1)] ?? this.field).focus();
  }

  /** Put a label back into the field, as it would be typed. */
  edit(index) {
    const [label] = this.labels.slice(index);
    this.set(this.labels.filter((_, other) => other !== index));
    this.field.value = label.prompts?.length ? `${label.name} = ${label.prompts[0]}` : label.name;
    this.field.focus();
  }

  draw() {
    this.list.replaceChildren(...this.labels.map((label, index) => this.tag(label, index)));
    this.list.hidden = !this.labels.length;
  }

  tag(label, index) {
    const item = document.createElement("li");
    item.classList.toggle("quiet", Boolean(label.hidden));
    if (this.fixed) {
      item.append(Object.assign(document.createElement("span"), { className: "word", textContent: label.name }));
      return item;
    }
    const text = button(label.name, () => this.edit(index));
    text.className = "word";
    text.setAttribute("aria-label", translate("edit", label));
    text.title = [...(label.prompts ?? []), ...(label.hidden ? [translate("hidden")] : [])].join(" · ");
    const shown = english(label);
    if (shown) text.append(Object.assign(document.createElement("small"), { textContent: shown, lang: "en" }));
    const away = button("×", () => this.remove(index));
    away.className = "remove";
    away.setAttribute("aria-label", translate("remove", label));
    item.append(text, away);
    return item;
  }
}

/** Return the labels of a set as they are called in the current language. */
export const named = (labels) =>
  labels.map(({ zh, ...label }) =>
    zh && language() === "zh" ? { ...label, name: zh, prompts: label.prompts ?? [framed(label.name)] } : label,
  );

export function button(words, pressed) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
  made.addEventListener("click", pressed);
  return made;
}

/** Return what the model reads, if it differs from the name: the first prompt without the template. */
function english({ name, prompts }) {
  const [first] = prompts ?? [];
  if (!first) return "";
  const bare = first.replace(/^This is a sound of (.*)\.$/, "$1");
  return bare === name || name.includes(bare) || name.split(" ").length > 1 ? "" : bare;
}
