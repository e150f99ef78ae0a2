// The waveform and the log-mel picture, with the span that was scored.

import { translate} from "./words.js";

// matplotlib's "magma" at nine places, equally far apart
const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135], [252, 253, 191]];
const HERTZ = [100, 500, 1000, 2000, 5000, 10000];
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
const SHORTEST = 0.05;

const bytes = (text, kind) => kind.from(atob(text), (character) => character.charCodeAt(0));

/** A picture of a recording on which a span can be marked and chosen. */
export class Figure {
  /**
   * @param {HTMLElement} root holds the canvases and the marks
   * @param {Function} chosen is called with the span {start, end} that a user draws
   */
  constructor(root, chosen) {
    this.root = root;
    this.at = (name) => root.querySelector(name);
    this.picture = null;
    this.span = null;
    this.choose(chosen);
    new ResizeObserver(() => this.draw()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.picture = this.span = null;
    this.root.hidden = true;
  }

  show(picture) {
    this.picture = {
      ...picture,
      waveform: bytes(picture.waveform, Int8Array),
      mel: bytes(picture.mel, Uint8Array),
    };
    this.root.hidden = false;
    this.mark(this.span);
    this.draw();
  }

  /** Mark the span that was scored, as {start, end}. */
  mark(span) {
    this.span = span;
    const heard = this.at(".heard");
    heard.hidden = !span || !this.picture;
    if (!this.picture) return;
    if (span) this.place(heard, span);
    const values = { of: seconds(this.picture.end), start: seconds(span?.start ?? 0), end: seconds(span?.end ?? this.picture.end) };
    this.at("#waveform").setAttribute("aria-label", translate("waveformText", values));
    this.at("#mel").setAttribute("aria-label", translate("melText", values));
  }

  /** Show where the recording is being played, in seconds; null hides it. */
  play(second) {
    const head = this.at(".playhead");
    head.hidden = second === null || !this.picture;
    if (!head.hidden) head.style.left = `${(100 * second) / this.picture.end}%`;
  }

  place(node, { start, end }) {
    node.style.left = `${(100 * start) / this.picture.end}%`;
    node.style.width = `${(100 * (Math.min(end, this.picture.end) - start)) / this.picture.end}%`;
  }

  choose(chosen) {
    const area = this.at(".drawn");
    const mark = this.at(".selected");
    let from = null;
    const second = (event) => {
      const box = area.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.picture.end;
    };
    const span = (event) => ({ start: Math.min(from, second(event)), end: Math.max(from, second(event)) });
    area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = second(event);
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      if (from === null) return;
      mark.hidden = false;
      this.place(mark, span(event));
    });
    area.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const { start, end } = span(event);
      from = null;
      mark.hidden = true;
      if (end - start > Math.max(SHORTEST, this.picture.end / 200)) chosen({ start, end });
    });
    area.addEventListener("pointercancel", () => {
      from = null;
      mark.hidden = true;
    });
  }

  draw() {
    if (!this.picture || !this.root.clientWidth) return;
    this.drawWaveform();
    this.drawMel();
    this.drawAxes();
  }

  drawWaveform() {
    const [canvas, width, height] = sized(this.at("#waveform"));
    const { waveform } = this.picture;
    const columns = waveform.length / 2;
    canvas.fillStyle = getComputedStyle(this.root).getPropertyValue("--wave");
    for (let x = 0; x < width; x += 1) {
      const first = Math.floor((x * columns) / width);
      const stop = Math.max(first + 1, Math.floor(((x + 1) * columns) / width));
      let [high, low] = [-128, 127];
      for (let column = first; column < stop; column += 1) {
        high = Math.max(high, waveform[2 * column]);
        low = Math.min(low, waveform[2 * column + 1]);
      }
      const top = (height / 2) * (1 - high / 127);
      canvas.fillRect(x, top, 1, Math.max(1, ((high - low) / 254) * height));
    }
  }

  drawMel() {
    const [canvas, width, height] = sized(this.at("#mel"));
    const bands = this.picture.hertz.length;
    const columns = this.picture.mel.length / bands;
    if (!columns) return;
    const image = new ImageData(columns, bands);
    for (let column = 0; column < columns; column += 1) {
      for (let band = 0; band < bands; band += 1) {
        image.data.set(magma(this.picture.mel[column * bands + band]), 4 * ((bands - 1 - band) * columns + column));
      }
    }
    const drawn = Object.assign(document.createElement("canvas"), { width: columns, height: bands });
    drawn.getContext("2d").putImageData(image, 0, 0);
    canvas.drawImage(drawn, 0, 0, width, height);
  }

  drawAxes() {
    const { hertz } = this.picture;
    const bands = HERTZ.map((wanted) => {
      const nearest = hertz.reduce((best, value, band) => (Math.abs(value - wanted) < Math.abs(hertz[best] - wanted) ? band : best), 0);
      return tick(wanted < 1000 ? `${wanted}` : `${wanted / 1000}k`, { bottom: `${(100 * (nearest + 0.5)) / hertz.length}%` });
    });
    this.at("#bands").replaceChildren(...bands);
    drawSeconds(this.at("#seconds"), this.picture.end);
  }
}

/** Write seconds under a picture that begins with the recording and ends with it. */
export function drawSeconds(axis, of) {
  const wanted = Math.max(2, Math.floor(axis.clientWidth / 70));
  const step = STEPS.find((each) => of / each <= wanted) ?? 3600;
  const marks = Array.from({ length: Math.floor(of / step + 1e-9) + 1 }, (_, index) => index * step);
  axis.replaceChildren(...marks.map((second) => tick(clock(second, of), { left: `${(100 * second) / of}%` })));
}

/** Return seconds as people read them: no more digits than they need. */
export const seconds = (value) => Number(value).toFixed(2).replace(/\.?0+$/, "");

export function clock(second, of = second) {
  if (of < 100) return seconds(second);
  const whole = Math.round(second);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return of < 3600 ? parts.join(":") : [Math.floor(whole / 3600), ...parts].join(":");
}

function tick(words, place) {
  const made = Object.assign(document.createElement("span"), { textContent: words });
  Object.assign(made.style, place);
  return made;
}

/** Return a canvas's pen and its size in device pixels, cleared. */
function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  return [canvas.getContext("2d"), canvas.width, canvas.height];
}

function magma(shade) {
  const place = (shade / 255) * (MAGMA.length - 1);
  const below = Math.min(Math.floor(place), MAGMA.length - 2);
  return [...MAGMA[below].map((value, index) => value + (place - below) * (MAGMA[below + 1][index] - value)), 255];
}
