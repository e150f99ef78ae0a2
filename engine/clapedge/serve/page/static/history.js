// What was scored before: kept in this browser, without the recordings.

const PLACE = "clapedge.history";
const MOST = 20;

/** Return the kept answers, the latest first. */
export function kept() {
  try {
    return JSON.parse(localStorage.getItem(PLACE) ?? "[]");
  } catch {
    return [];
  }
}

/** Keep an answer; a browser that keeps nothing is left alone. */
export function keep(answer) {
  write([answer, ...kept()].slice(0, MOST));
}

export const forget = () => write([]);

function write(answers) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(answers));
  } catch {
    // a private window may refuse; the answer stands on the page all the same
  }
}
