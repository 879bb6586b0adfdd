/** The server's clock. It is asked for the time once in a while, and ticks here in between. */

import { byId } from "./page.js";

const EVERY = 300_000; // ms; clocks drift apart by milliseconds in that time

export class ServerClock {
  #client;
  #ahead = 0; // ms, of the server before this machine
  #zone = "";
  #timer;

  constructor(client) {
    this.#client = client;
    setInterval(() => this.set().catch(() => {}), EVERY); // the next answer will do
  }

  /** Asks for the time. */
  async set() {
    const asked = Date.now();
    const { at, offset, zone } = await this.#client.call("clock");
    const answered = Date.now();
    // The server said so about halfway between question and answer. The offset of its time zone
    // is in it, since it is shown as if it were UTC.
    this.#ahead = (at + offset) * 1000 - (asked + answered) / 2;
    this.#zone = zone;
    this.#tick();
  }

  stop() {
    clearTimeout(this.#timer);
    byId("clock").textContent = "--:--:--";
  }

  #tick() {
    clearTimeout(this.#timer);
    const now = Date.now() + this.#ahead;
    const time = new Date(now).toLocaleTimeString([], { timeZone: "UTC" });
    byId("clock").textContent = `${time} ${this.#zone}`;
    this.#timer = setTimeout(() => this.#tick(), 1000 - (now % 1000));
  }
}
