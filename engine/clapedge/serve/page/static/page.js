// The page: what happens when something is chosen, written or pressed. The parts are modules of their own.

import { Code } from "./code.js";
import { Figure, seconds } from "./figure.js";
import { forget, keep, kept } from "./history.js";
import { button, named, Tags } from "./labels.js";
import { Recorder } from "./recorder.js";
import { Refusal, Service, form, size } from "./service.js";
import { drawEvents, drawTimeline } from "./timeline.js";
import { adviceText, language, preferred, presetName, setLanguage, translate } from "./words.js";

const TYPING_PAUSE = 350; // milliseconds after the last key until the checker is asked
const MOST_ADVICE = 4; // nobody reads more at once
const FEW_LABELS = 3; // as the checker has it
const BACKGROUND = ["quiet room tone", "wind"];
const CLIP_SECONDS = 10; // longer recordings get a timeline
const percent = (share) => `${(100 * share).toFixed(1)} %`;

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** The page in its root element, with the facts that the server gives. */
class Page {
  constructor(root, facts) {
    Object.assign(this, { root, facts, file: null, answer: null, timeline: null, preset: null, work: new AbortController() });
    this.at = (id) => root.querySelector(`#${id}`);
    this.service = new Service();
    this.figure = new Figure(this.at("figure"), (span) => this.choose(span));
    this.code = new Code(this.at("copy-card"));
    this.recorder = new Recorder((spent) => (this.at("record-words").textContent = translate("stop", { seconds: spent })));
    this.tags = new Tags(this.at("tags"), this.at("add"), { glossary: facts.glossary, fixed: !facts.reads_words }, () => this.labelsChanged());
    this.at("label-hint").hidden = !facts.reads_words;
    this.connect();
    this.setLanguage(preferred());
    if (facts.presets.length) this.start(facts.presets[0]);
  }

  connect() {
    const { at } = this;
    for (const node of this.root.querySelectorAll("[data-language]")) {
      node.addEventListener("click", () => {
        localStorage.setItem("clapedge.language", node.dataset.language);
        this.setLanguage(node.dataset.language);
      });
    }
    at("file").addEventListener("change", () => this.take(at("file").files[0]));
    for (const kind of ["dragover", "dragleave", "drop"]) {
      at("drop").addEventListener(kind, (event) => {
        event.preventDefault();
        at("drop").classList.toggle("over", kind === "dragover");
        if (kind === "drop") this.take(event.dataTransfer.files[0]);
      });
    }
    at("record").addEventListener("click", () => this.record());
    at("label").addEventListener("input", () => this.advise());
    at("score-button").addEventListener("click", () => this.score());
    at("player").addEventListener("timeupdate", () => this.figure.play(at("player").currentTime));
    at("player").addEventListener("ended", () => this.figure.play(null));
    at("forget").addEventListener("click", () => {
      forget();
      this.drawHistory();
    });
  }

  /** Show everything in a language. */
  setLanguage(chosen) {
    setLanguage(chosen, this.root);
    const { max_upload: bytes, max_seconds: longest, weights } = this.facts;
    this.at("limits").textContent = translate("limits", { size: size(bytes), minutes: Math.round(longest / 60) });
    const note = { demo: "demoWeights", random: "randomWeights" }[weights];
    this.at("model-note").hidden = !note;
    if (note) this.at("model-note").textContent = translate(note);
    this.drawClips();
    this.drawPresets();
    if (this.preset) this.start(this.preset);
    this.tags.draw();
    this.showError("");
    if (this.answer) this.show(this.answer);
    if (this.timeline) this.showTimeline();
    this.drawHistory();
  }

  drawClips() {
    this.at("clips").replaceChildren(
      ...this.facts.clips.map((clip) => {
        const made = button(clip[language()], () => this.play(clip));
        made.setAttribute("aria-pressed", String(this.file?.name === clip.file));
        return element("li", {}, made);
      }),
    );
  }

  drawPresets() {
    this.at("presets").replaceChildren(
      ...this.facts.presets.map((preset) => {
        const made = button(presetName(preset.name), () => this.start(preset));
        made.setAttribute("aria-pressed", String(preset === this.preset));
        return element("li", {}, made);
      }),
    );
  }

  /** Begin with the labels of a set. */
  start(preset) {
    this.preset = preset;
    this.starting = true;
    this.tags.set(named(preset.labels));
    this.starting = false;
    this.showError("");
    this.drawPresets();
  }

  labelsChanged() {
    if (this.starting) return this.advise(); // `start` goes on
    const left = this.preset;
    this.preset = null;
    if (left) this.drawPresets();
    this.showError("");
    const words = this.tags.labels.filter(({ taught }) => !taught);
    if (words.length < this.tags.labels.length) {
      this.tags.set(words); // what clips taught is no word: alone, it would be another sound
      this.showError(translate("taughtLeft"));
    }
    this.advise();
  }

  async play(clip) {
    const response = await fetch(`page/clips/${clip.file}`);
    await this.take(new File([await response.blob()], clip.file, { type: "audio/flac" }), clip[language()]);
  }

  /** Take a recording: show it, draw it, and score it if there are labels. */
  async take(file, shown = file?.name) {
    if (!file) return;
    this.at("file").value = "";
    if (file.size > this.facts.max_upload) {
      this.showError(translate("tooLarge", { name: file.name, found: size(file.size), size: size(this.facts.max_upload) }));
      return;
    }
    this.cancel();
    this.file = file;
    this.at("chosen").hidden = false;
    this.at("chosen-name").textContent = `${shown} · ${size(file.size)}`;
    URL.revokeObjectURL(this.at("player").src);
    this.at("player").src = URL.createObjectURL(file);
    this.at("start").value = "0";
    this.at("duration").value = "";
    this.showError("");
    this.clear();
    this.drawClips();
    await (this.tags.pending().length ? this.score() : this.draw());
  }

  async record() {
    const pressed = (on) => this.at("record").setAttribute("aria-pressed", String(on));
    if (this.recorder.running) {
      pressed(false);
      this.at("record-words").textContent = translate("record");
      await this.take(await this.recorder.stop(translate("recorded", { time: new Date().toTimeString().slice(0, 8).replaceAll(":", ".") })));
      return;
    }
    try {
      await this.recorder.start();
      pressed(true);
    } catch (error) {
      this.showError(translate("noMicrophone", { reason: error.message }));
    }
  }

  /** Score only the span that was drawn. */
  choose({ start, end }) {
    this.at("start").value = start.toFixed(1);
    this.at("duration").value = Math.max(0.1, end - start).toFixed(1);
    this.score();
  }

  cancel() {
    this.work.abort();
    this.work = new AbortController();
    return this.work.signal;
  }

  clear() {
    Object.assign(this, { answer: null, timeline: null });
    this.figure.clear();
    for (const id of ["verdict", "bars", "remarks"]) this.at(id).replaceChildren();
    this.at("facts").textContent = "";
    this.at("timeline-card").hidden = this.at("copy-card").hidden = true;
    this.at("empty").hidden = Boolean(this.file);
  }

  async draw() {
    const { file } = this;
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      const picture = await this.service.json("page/picture", { body }); // scoring anew does not end it
      if (file === this.file) this.figure.show(picture);
    } catch (error) {
      this.complain(error);
    }
  }

  fields() {
    const [start, duration] = [Number(this.at("start").value), Number(this.at("duration").value)];
    const window = this.at("window").value;
    return { start: start || null, duration: duration || null, window: window === "first" ? null : window };
  }

  /** Score the recording against the labels, with a timeline if it is long. */
  async score() {
    if (this.at("label").value.trim()) this.tags.take(this.at("label").value, true);
    const { labels } = this.tags;
    if (!this.file || !labels.length) {
      this.showError(translate(this.file ? "noLabels" : "noRecording"));
      (this.file ? this.at("label") : this.at("file")).focus();
      return;
    }
    this.showError("");
    const signal = this.cancel();
    const set = this.preset?.by_name || !this.facts.reads_words ? this.preset.name : null;
    const asked = { file: this.file.name, labels, set, fields: this.fields(), key: this.facts.key };
    this.busy(true);
    try {
      const result = await this.service.json("v1/score", { body: form(this.file, asked, asked.fields), signal });
      this.show({ asked, result, when: Date.now() });
      this.look();
      keep(this.answer);
      this.drawHistory();
      if (!this.figure.picture) await this.draw();
      if (result.heard.of > CLIP_SECONDS) await this.scoreTimeline(asked, result.heard.of, signal);
      else this.at("timeline-card").hidden = true;
    } catch (error) {
      this.complain(error);
    } finally {
      if (signal === this.work.signal) this.busy(false);
    }
  }

  /** Bring the answer into view, where it stands below the fold of a phone. */
  look() {
    const title = this.at("answer-title");
    if (title.getBoundingClientRect().top < innerHeight / 2) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    title.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  }

  busy(on) {
    this.at("busy").hidden = !on;
    this.at("score-button").setAttribute("aria-busy", String(on));
    this.at("score-button").textContent = translate(on ? "scoring" : "score");
  }

  complain(error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refusal)) throw error;
    this.at("empty").hidden = Boolean(this.answer);
    this.showError(error.message);
  }

  showError(words) {
    this.at("error").hidden = !words;
    this.at("error").textContent = words;
    if (words) this.at("error").scrollIntoView({ block: "nearest" });
  }

  show(answer) {
    this.answer = answer;
    const { labels, unsure, unknown, heard, warnings, ms, model, variant, provider } = answer.result;
    const [best, second] = labels;
    this.at("empty").hidden = true;
    this.at("verdict").replaceChildren(
      element("strong", { textContent: translate(unknown ? "unknown" : unsure && second ? "unsure" : "sure", { name: best.name, other: second?.name }) }),
      element("span", { textContent: translate("certainty", { percent: percent(best.probability) }) }),
    );
    this.at("bars").replaceChildren(
      ...labels.map(({ name, probability, similarity }) => {
        const bar = element("span", { className: "bar", title: translate("similarity", { value: similarity.toFixed(3) }) }, element("i"));
        bar.firstChild.style.width = percent(probability).replace(" ", "");
        bar.setAttribute("aria-hidden", "true");
        return element("li", {}, element("span", { className: "name", textContent: name }), element("span", { className: "percent", textContent: percent(probability) }), bar);
      }),
    );
    this.at("remarks").replaceChildren(...remarks(heard, warnings));
    const times = { start: seconds(heard.start), end: seconds(heard.end), of: seconds(heard.of), ms: ms ? ms.total.toFixed(0) : "–" };
    this.at("facts").textContent = translate("facts", { ...times, model, variant, provider });
    if (this.file?.name === answer.asked.file) this.figure.mark(heard);
    this.code.show(answer.asked);
  }

  /** Score a long recording over time, with progress, and draw it. */
  async scoreTimeline(asked, of, signal) {
    this.timeline = { labels: asked.labels.filter(({ hidden }) => !hidden).map(({ name }) => name), edges: [], probabilities: [], events: [], of };
    this.at("timeline-card").hidden = this.at("progress").hidden = false;
    for (const id of ["timeline", "events"]) this.at(id).replaceChildren();
    for await (const line of this.service.lines("page/timeline", { body: form(this.file, asked), signal })) {
      if (line.error) throw new Refusal(line.error);
      if (line.until) this.at("progress").value = line.heard / line.until;
      if (line.edges) this.timeline = { ...this.timeline, ...line };
    }
    this.at("progress").hidden = true;
    this.showTimeline();
  }

  showTimeline() {
    drawTimeline(this.at("timeline"), this.timeline);
    drawEvents(this.at("events"), this.timeline.events, this.timeline.of, (second) => {
      this.at("player").currentTime = second;
      this.at("player").play().catch(() => {}); // a format that this browser cannot play stays silent
    });
  }

  /** Ask the checker about the labels, as they are typed. */
  advise() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.showAdvice(), TYPING_PAUSE);
  }

  async showAdvice() {
    const labels = this.tags.pending();
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const asGiven = this.preset && labels === this.tags.labels; // a set that ships has been checked
    const advice = asGiven || !labels.length ? [] : await this.check(labels);
    if (turn !== this.turn) return;
    this.at("advice").hidden = !advice.length;
    this.at("advice").replaceChildren(
      element("strong", { textContent: translate("adviceTitle") }),
      element("ul", {}, ...advice.slice(0, MOST_ADVICE).map((each) => this.advice(each, labels))),
    );
  }

  /** Return a piece of advice as a list item; one about few labels has a button that adds a background. */
  advice(each, labels) {
    if (each.rule !== "count" || labels.length >= FEW_LABELS) return element("li", { textContent: adviceText(each) });
    const item = element("li", { textContent: `${translate("fewLabels")} ` });
    const background = { name: translate("background"), prompts: BACKGROUND, hidden: true };
    if (!labels.some(({ hidden }) => hidden)) item.append(button(translate("addBackground"), () => this.tags.add([background])));
    return item;
  }

  async check(labels) {
    try {
      const body = JSON.stringify({ labels });
      return (await this.service.json("v1/labels/check", { body, headers: { "Content-Type": "application/json" } })).advice;
    } catch (error) {
      if (error instanceof Refusal) return []; // scoring reports the same fault
      throw error;
    }
  }

  drawHistory() {
    const answers = kept();
    this.at("history-card").hidden = !answers.length;
    this.at("history").replaceChildren(
      ...answers.map((answer) => {
        const [best] = answer.result.labels;
        const when = new Date(answer.when).toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
        const made = button("", () => this.recall(answer));
        made.append(
          element("strong", { textContent: `${best.name} ${percent(best.probability)}` }),
          element("span", { textContent: when }),
          element("span", { textContent: answer.asked.file }),
        );
        return element("li", {}, made);
      }),
    );
  }

  /** Show an answer of before; its recording is gone, its labels are not. */
  recall(answer) {
    if (this.file?.name !== answer.asked.file) {
      this.cancel();
      this.busy(false);
      this.file = null;
      this.at("chosen").hidden = true;
      this.clear();
      this.drawClips();
    }
    const preset = answer.asked.set && this.facts.presets.find(({ name }) => name === answer.asked.set);
    if (preset) this.start(preset);
    else this.tags.set(answer.asked.labels);
    this.show(answer);
  }
}

/** Return the warnings as list items. The one about a part that was left out names options of Python: it is replaced. */
function remarks(heard, warnings) {
  const others = warnings.filter((words) => !words.includes("window=")).map((words) => element("li", { textContent: words, lang: "en" }));
  const partial = others.length < warnings.length;
  return partial ? [element("li", { textContent: translate("partial", { start: seconds(heard.start), end: seconds(heard.end) }) }), ...others] : others;
}

/** Bring the page to life. */
export function begin(root, facts) {
  return new Page(root, facts);
}
