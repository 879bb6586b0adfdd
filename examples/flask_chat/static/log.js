/** The messages of the place that is shown: each once, in the order of their ids. */

import { byId, make } from "./page.js";

const MOST = 500; // messages; older ones are fetched again when they are asked for
const STEP = 50; // of those that are let go of at once, since the page is laid out anew each time
const TOGETHER = 300; // s between messages of a user that stand together
const NEAR = 40; // px from the end that still count as the end
const HUES = 6;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

const dayOf = (message) => calendar.format(message.at * 1000);
const nameOf = (message) => `${message.from} ${message.key}`;
const idOf = (message) => message.id ?? Infinity; // ours that have none yet are the last

export class MessageLog {
  #box = byId("log");
  #list = byId("messages");
  #earlier = byId("earlier");
  #latest = byId("latest");
  /** What is shown: messages, each with its item in the list. */
  #entries = [];
  #atEnd = true;

  constructor() {
    this.#box.addEventListener("scroll", () => this.#scrolled());
    this.#latest.addEventListener("click", () => {
      this.#scrollToEnd();
      this.#box.focus();
    });
    new ResizeObserver(() => this.#atEnd && this.#scrollToEnd()).observe(this.#box);
  }

  /** The ids of the first and the last message that the server has; undefined without any. */
  get first() {
    return this.#entries.find(({ message }) => message.id)?.message.id;
  }

  get last() {
    return this.#entries.findLast(({ message }) => message.id)?.message.id;
  }

  clear() {
    this.#entries = [];
    this.#list.replaceChildren();
    byId("empty").hidden = true;
    this.#earlier.hidden = true;
    this.#scrollToEnd();
  }

  /** Adds a page of the history. A screen reader is not to read all of it. */
  addPage(messages, more) {
    this.#box.setAttribute("aria-live", "off");
    const [first, height] = [this.first, this.#box.scrollHeight];
    for (const message of messages) this.#put(message);
    if (!first || messages[0]?.id < first) this.#earlier.hidden = !more;
    byId("empty").hidden = this.#entries.length > 0;
    if (this.#atEnd) this.#scrollToEnd();
    else this.#box.scrollTop += this.#box.scrollHeight - height; // what was in sight stays there
    requestAnimationFrame(() => this.#box.setAttribute("aria-live", "polite"));
  }

  /** Adds a message that came just now, or one of ours that is on its way. */
  add(message, isMine) {
    this.#put(message);
    byId("empty").hidden = true;
    if (this.#atEnd || isMine) this.#scrollToEnd();
    else this.#latest.hidden = false;
    this.#trim();
  }

  /** Says why a message of ours could not be sent, and offers to try again. */
  fail(message, why, again) {
    const { item } = this.#find(message);
    const button = make("button", { text: "Try again", onclick: again });
    item.classList.replace("waits", "failed");
    item.querySelector(".state").replaceChildren(`Not sent. ${why} `, button);
  }

  /** Shows a message once, however often it comes, and what became of one of ours. */
  #put(message) {
    const known = this.#find(message);
    if (known?.message.id) return;
    const entry = known ?? { item: itemFor(message) };
    entry.message = message;
    update(entry.item, message);
    this.#arrange(entry);
  }

  #arrange(entry) {
    const from = this.#entries.indexOf(entry); // -1: it is new
    if (from >= 0) this.#entries.splice(from, 1);
    const id = idOf(entry.message);
    const to = this.#entries.findLastIndex(({ message }) => idOf(message) <= id) + 1;
    this.#entries.splice(to, 0, entry);
    // What is in its place stays in the page, or a screen reader would read it once more.
    if (from !== to) this.#list.insertBefore(entry.item, this.#entries[to + 1]?.item ?? null);
    for (const place of [from, to, to + 1]) this.#group(place);
  }

  #find(message) {
    return this.#entries.findLast((entry) => nameOf(entry.message) === nameOf(message));
  }

  /** Puts an item under the one before it, or under a date. */
  #group(place) {
    const [before, entry] = [this.#entries[place - 1]?.message, this.#entries[place]];
    if (!entry) return;
    const { message, item } = entry;
    const isNewDay = !before || dayOf(before) !== dayOf(message);
    const follows = before?.from === message.from && message.at - before.at < TOGETHER;
    item.querySelector(".day").hidden = !isNewDay;
    item.classList.toggle("follows", follows && !isNewDay);
  }

  /** Lets go of the oldest. Who is reading older ones keeps more, but not without end. */
  #trim() {
    const surplus = this.#entries.length - (this.#atEnd ? MOST : 2 * MOST);
    if (surplus < STEP) return;
    const height = this.#box.scrollHeight;
    for (const { item } of this.#entries.splice(0, surplus)) item.remove();
    this.#group(0);
    this.#earlier.hidden = false;
    if (!this.#atEnd) this.#box.scrollTop += this.#box.scrollHeight - height; // as in addPage
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) this.#latest.hidden = true;
  }

  #scrollToEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#atEnd = true;
    this.#latest.hidden = true;
  }
}

function itemFor({ from, text }) {
  const hue = [...from].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % HUES;
  return make(
    "li",
    {},
    make("p", { class: "day" }),
    make("span", { class: `picture hue${hue}`, text: [...from][0], "aria-hidden": "true" }),
    make("p", { class: "head" }, make("b", {}, make("bdi", { text: from })), make("time")),
    make("p", { class: "words", text }),
    make("p", { class: "state" }),
  );
}

/** Says when a message was sent, and whether it was. */
function update(item, message) {
  const [date, time] = [new Date(message.at * 1000), item.querySelector("time")];
  time.dateTime = date.toISOString();
  time.textContent = clock.format(date);
  item.querySelector(".day").textContent = dayOf(message);
  item.querySelector(".state").textContent = message.id ? "" : "Waits to be sent.";
  item.classList.remove("failed");
  item.classList.toggle("waits", !message.id);
}
