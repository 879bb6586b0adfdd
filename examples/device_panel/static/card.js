/** The card of a device: what is known of it, the plot, and the switch of its lamp. */

import { WSE_ERROR } from "../ws/wse.js";
import { draw, range } from "./plot.js";

const KEPT = 600; // readings
const LISTED = 10; // of those, in the table

const STATES = { here: "connected", away: "connection lost", gone: "not connected" };
const PROBLEMS = {
  "panel.away": "It is not connected at the moment, so the lamp stays as it is.",
  "panel.silent": "It does not answer. The next reading will show what the lamp does.",
  [WSE_ERROR.CONNECTION_NOT_READY]: "The panel is not connected at the moment.",
  [WSE_ERROR.RP_DISCONNECT]: "The panel was restarted. The next reading will show what is lit.",
};

const percent = (value) => `${Math.round(100 * value)} %`;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export class Card {
  /**
   * @param {{name: string}} facts
   * @param {(on: boolean) => Promise<boolean>} toggle has the device switch its lamp
   */
  constructor({ name }, toggle) {
    const template = document.getElementById("card");
    this.element = template.content.firstElementChild.cloneNode(true);
    this.name = name;
    this.readings = [];
    this.find("h2").textContent = name;
    this.find("h2").id = `device-${name}`;
    this.element.setAttribute("aria-labelledby", `device-${name}`);
    this.find(".switch").addEventListener("click", () => this.#switch(toggle));
    this.find("details").addEventListener("toggle", () => this.#list());
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Shows all but the readings; what is not given stays. */
  show({ state, lamp, pressed_at: pressedAt }) {
    if (state !== this.state) this.find(".problem").textContent = ""; // it was about the old one
    this.state = state;
    this.element.dataset.state = state;
    this.find(".state").textContent = STATES[state];
    if (lamp !== undefined) this.find(".switch").setAttribute("aria-checked", lamp);
    if (pressedAt) this.find(".pressed").textContent = clock.format(pressedAt * 1000);
  }

  add(readings) {
    this.readings = [...this.readings, ...readings].slice(-KEPT);
    const last = this.readings.at(-1);
    if (last) this.find(".light").textContent = percent(last[1]);
    this.#list();
  }

  /** Draws the plot as it is at a time of the server. */
  draw(now) {
    const svg = this.find("svg");
    draw(svg, this.readings, now);
    const found = range(this.readings, now);
    const words = found
      ? `${percent(found.lowest)} to ${percent(found.highest)}`
      : "no readings";
    this.find(".range").textContent = words;
    const latest = found ? `, now ${percent(found.latest)}` : "";
    const label = `Light of ${this.name} in the last two minutes: ${words}${latest}`;
    svg.setAttribute("aria-label", label);
  }

  #list() {
    if (!this.find("details").open) return;
    const rows = this.readings.slice(-LISTED).reverse().map(([at, value]) => {
      const row = document.createElement("tr");
      row.insertCell().textContent = clock.format(at * 1000);
      row.insertCell().textContent = percent(value);
      return row;
    });
    this.find("tbody").replaceChildren(...rows);
  }

  /** Waits for the device: the switch shows what the lamp does, not what was wished for. */
  async #switch(toggle) {
    const button = this.find(".switch");
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    this.find(".problem").textContent = "";
    try {
      const isLit = button.getAttribute("aria-checked") === "true";
      button.setAttribute("aria-checked", await toggle(!isLit));
    } catch (error) {
      this.find(".problem").textContent = PROBLEMS[error.code] ?? error.message;
    } finally {
      button.setAttribute("aria-busy", "false");
    }
  }
}
