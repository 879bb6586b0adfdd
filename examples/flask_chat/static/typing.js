/** Who is writing something in the place that is shown. A sign that is not renewed goes away. */

import { byId } from "./page.js";

const LASTS = 4000; // ms
const PAUSE = 2000; // ms between two signs of our own

export class Typing {
  #timers = new Map();
  #told = -Infinity;

  add(name) {
    this.remove(name);
    this.#timers.set(name, setTimeout(() => this.remove(name), LASTS));
    this.#draw();
  }

  remove(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    this.#draw();
  }

  clear() {
    for (const name of [...this.#timers.keys()]) this.remove(name);
  }

  /** Whether it is time to tell the others that we are writing. */
  isDue() {
    if (performance.now() - this.#told < PAUSE) return false;
    this.#told = performance.now();
    return true;
  }

  /** What we wrote is sent; the others have forgotten our sign. */
  finish() {
    this.#told = -Infinity;
  }

  #draw() {
    const names = [...this.#timers.keys()];
    const verb = names.length === 1 ? "is" : "are";
    byId("typing").textContent = names.length ? `${names.join(" and ")} ${verb} writing…` : "";
  }
}
