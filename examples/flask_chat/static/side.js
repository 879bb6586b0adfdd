/** The side: rooms and people, what is new there, and the menu that shows them on a phone. */

import { byId, make } from "./page.js";

const linkTo = (place) => `#${new URLSearchParams({ in: place })}`;

/** The place that the address of the page names. */
export const placeInUrl = () => new URLSearchParams(location.hash.slice(1)).get("in") ?? "lobby";

export class Side {
  #rooms = new Set();
  #people = new Map();
  #news = new Map(); // place -> how many messages
  #place = "";
  #me;

  constructor(me) {
    this.#me = me;
    byId("menu").addEventListener("click", () => this.#toggleMenu());
    byId("shade").addEventListener("click", () => this.#toggleMenu(false));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.#toggleMenu(false));
  }

  /** Begins anew with what the server says. */
  begin({ rooms, people, unseen }) {
    this.#rooms = new Set(rooms);
    this.#people = new Map(people.map((person) => [person.name, person]));
    for (const place of this.#news.keys()) if (place.startsWith("@")) this.#news.delete(place);
    for (const [place, count] of Object.entries(unseen)) this.#news.set(place, count);
    this.#draw();
  }

  addRoom(name) {
    this.#rooms.add(name);
    this.#draw();
  }

  setPresence(person) {
    this.#people.set(person.name, person);
    this.#draw();
  }

  /** One more message that nobody has looked at here. */
  count(place) {
    this.#news.set(place, (this.#news.get(place) ?? 0) + 1);
    this.#draw();
  }

  forget(place) {
    if (this.#news.delete(place)) this.#draw();
  }

  show(place) {
    this.#place = place;
    this.#draw();
    if (document.body.classList.contains("menu-open")) this.#toggleMenu(false);
  }

  #draw() {
    const focused = document.activeElement?.getAttribute("href");
    const here = [...this.#people.values()].sort(hereFirst);
    byId("rooms").replaceChildren(...[...this.#rooms].sort().map((name) => this.#room(name)));
    byId("people").replaceChildren(...here.map((person) => this.#person(person)));
    if (focused) byId("side").querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    const news = [...this.#news.values()].reduce((sum, count) => sum + count, 0);
    byId("menu-badge").textContent = news || "";
    document.title = `${news ? `(${news}) ` : ""}${titleOf(this.#place)} · Chat`;
  }

  #room(name) {
    const sign = make("span", { class: "sign", text: "#", "aria-hidden": "true" });
    return this.#item(name, sign, name);
  }

  #person({ name, devices, away }) {
    const state = devices === 0 ? "" : devices === away ? "away" : "here";
    const dot = make("span", { class: `dot ${state}` });
    const count = devices === 1 ? "1 device" : `${devices} devices`;
    const text = { "": "not here", away: "away", here: count }[state];
    const devicesText = make("span", { class: "devices", text });
    const shown = name === this.#me ? `${name} (you)` : name;
    return this.#item(`@${name}`, dot, shown, devicesText);
  }

  #item(place, sign, name, ...more) {
    const link = make("a", { href: linkTo(place) }, sign);
    link.append(make("span", { class: "name" }, make("bdi", { text: name })), ...more);
    const news = this.#news.get(place);
    if (news) {
      link.append(
        make("span", { class: "badge", text: news }),
        make("span", { class: "visually-hidden", text: " new" }),
      );
    }
    if (place === this.#place) link.setAttribute("aria-current", "page");
    return make("li", {}, link);
  }

  #toggleMenu(open = !document.body.classList.contains("menu-open")) {
    if (open === document.body.classList.contains("menu-open")) return;
    document.body.classList.toggle("menu-open", open);
    byId("menu").setAttribute("aria-expanded", open);
    byId("main").inert = open;
    if (open) byId("side").querySelector("a")?.focus();
    else byId("menu").focus();
  }
}

/** How a place is called where there is no sign beside it. */
export const titleOf = (place) => (place.startsWith("@") ? place.slice(1) : `#${place}`);

function hereFirst(one, other) {
  return (other.devices > 0) - (one.devices > 0) || one.name.localeCompare(other.name);
}
