/** The page of the panel: a card for each device, as the server tells of it. */

import { WSE_ERROR, WSE_REASON, WSE_STATUS, WseClient, WseError } from "../ws/wse.js";
import { Card } from "./card.js";

const client = new WseClient(new URL("../ws", import.meta.url).href, {
  reconnect: true,
  backoff: { initial: 500, factor: 2, maximum: 10_000 }, // ms: somebody sits here and waits
});
const cards = new Map();
const box = document.getElementById("devices");
const banner = document.getElementById("banner");
let ahead = 0; // s, of the server's clock before the one here
let lastReason = "";

const now = () => Date.now() / 1000 + ahead;

function cardOf(facts) {
  let card = cards.get(facts.name);
  if (!card) {
    card = new Card(facts, (on) => toggle(facts.name, on));
    cards.set(facts.name, card);
    const after = [...cards.keys()].filter((name) => name > facts.name).sort()[0];
    box.insertBefore(card.element, cards.get(after)?.element ?? null);
  }
  card.show(facts);
  return card;
}

function toggle(device, on) {
  // A link that is lost keeps calls until it is back. Nobody wants this one to wait for that.
  if (client.status !== WSE_STATUS.READY) throw new WseError(WSE_ERROR.CONNECTION_NOT_READY);
  return client.call("switch", { device, on });
}

function summarize() {
  const states = [...cards.values()].map(({ state }) => state);
  const here = states.filter((state) => state === "here").length;
  const text = states.length ? `${here} of ${states.length} connected` : "";
  const summary = document.getElementById("summary");
  if (summary.textContent !== text) summary.textContent = text; // a screen reader reads it out
  document.getElementById("none").hidden = states.length > 0 || client.status !== WSE_STATUS.READY;
}

function drawAll() {
  if (document.hidden) return;
  for (const card of cards.values()) card.draw(now());
}

client.channel.on("devices", ({ now: theirs, devices }) => {
  ahead = theirs - Date.now() / 1000;
  // A panel that was restarted does not know of those that have not come back yet.
  for (const card of cards.values()) card.show({ state: "gone" });
  for (const { readings, ...facts } of devices) {
    const card = cardOf(facts);
    card.readings = [];
    card.add(readings);
  }
  summarize();
  drawAll();
});
client.channel.on("device", (facts) => {
  cardOf(facts);
  summarize();
});
client.channel.on("reading", ({ at, light, ...facts }) => {
  const card = cardOf(facts);
  card.add([[at, light]]);
  if (!document.hidden) card.draw(now());
});

client.when.closed((code, reason) => (lastReason = reason));
client.when.updated((status) => {
  const words = {
    [WSE_STATUS.CONNECTING]: "Connecting…",
    [WSE_STATUS.RE_CONNECTING]: "The connection to the panel is lost. What you see is old.",
    [WSE_STATUS.OFFLINE]: "The panel has ended the connection. Reload the page to go on.",
  };
  banner.textContent = words[status] ?? "";
  document.body.classList.toggle("old", status !== WSE_STATUS.READY);
  const isLoggedOut = [WSE_REASON.NOT_AUTHORIZED, "panel.logged-out"].includes(lastReason);
  if (status === WSE_STATUS.OFFLINE && isLoggedOut) location.reload(); // the form comes then
  summarize();
});

setInterval(drawAll, 1000);
document.addEventListener("visibilitychange", drawAll);

client.connect().catch(() => {}); // the banner says so
