/** The page of the chat: what comes from the server goes to its parts, and the other way round. */

import { WSE_ERROR, WSE_REASON, WSE_STATUS, WseClient } from "../ws/wse.js";
import { ServerClock } from "./clock.js";
import { MessageLog } from "./log.js";
import { byId, make } from "./page.js";
import { Side, placeInUrl, titleOf } from "./side.js";
import { Typing } from "./typing.js";

const me = document.body.dataset.me;
const client = new WseClient(new URL("../ws", import.meta.url).href, {
  reconnect: true,
  backoff: { initial: 500, factor: 2, maximum: 10_000 }, // ms: somebody sits here and waits
});
const log = new MessageLog();
const side = new Side(me);
const typing = new Typing();
const clock = new ServerClock(client);
const text = byId("text");
const banner = byId("banner");
const drafts = new Map(); // place -> what was written there and not sent
const unsent = new Map(); // key -> message of ours that the server has not confirmed
let place = "";
let isDelivering = false;

const PROBLEMS = {
  "chat.bad-name": "A name is one word: up to 20 letters, digits, - and _.",
  "chat.too-many-rooms": "There are too many rooms already.",
  "chat.no-such-place": "That room or user is no more.",
  "chat.too-long": "It is too long.",
  "chat.too-fast": "That was a lot at once. Wait a few seconds.",
  [WSE_ERROR.CONNECTION_NOT_READY]: "There is no connection at the moment.",
  [WSE_ERROR.RP_TIMEOUT]: "The server takes too long to answer.",
};
const isReady = () => client.status === WSE_STATUS.READY;
const isLost = ({ code }) =>
  code === WSE_ERROR.RP_DISCONNECT || code === WSE_ERROR.CONNECTION_NOT_READY;

/** What to tell the user. The words of other errors are for whoever looks after the page. */
function wordsFor(error) {
  if (!(error.code in PROBLEMS)) console.error(error);
  return PROBLEMS[error.code] ?? "Something went wrong at the server.";
}

/** Says what went wrong, unless it is tried again anyway when the server is back. */
function complain(error) {
  if (!isLost(error)) banner.textContent = wordsFor(error);
}

// Where we are

function go(where) {
  drafts.set(place, text.value);
  place = where;
  text.value = drafts.get(place) ?? "";
  byId("title").textContent = titleOf(place);
  text.placeholder = `Message ${titleOf(place)}`;
  typing.clear();
  log.clear();
  for (const message of unsent.values()) showUnsent(message);
  side.forget(place);
  side.show(place);
  if (isReady()) read().catch(complain);
  // Where there is no keyboard, one would come up and hide half of the page.
  (matchMedia("(pointer: fine)").matches ? text : byId("title")).focus();
}

/** Tells the server what is shown here, and gets what is missing of it. */
async function read() {
  const [asked, after] = [place, log.last];
  client.send("reading", place);
  const { messages, more } = await client.call("history", { place, after });
  if (asked !== place) return;
  if (after && more) log.clear(); // a gap that is longer than a page: begin with the newest
  log.addPage(messages, more);
}

async function readEarlier() {
  const asked = place;
  const { messages, more } = await client.call("history", { place, before: log.first });
  if (asked !== place) return;
  log.addPage(messages, more);
  if (!more) byId("log").focus(); // the button is gone
}

/** The place of a message, as it is called here: of a private one it is the other user. */
const placeOf = ({ from, to }) => (to === `@${me}` ? `@${from}` : to);

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a place
  text.focus();
});
addEventListener("hashchange", () => go(placeInUrl()));
byId("earlier").addEventListener("click", () => readEarlier().catch(complain));
document.addEventListener("visibilitychange", () => document.hidden || look());

/** What is shown has been seen. */
function look() {
  side.forget(place);
  if (place.startsWith("@") && isReady()) client.send("reading", place);
}

// What others do

client.channel.on("state", (state) => side.begin(state));
client.channel.on("presence", (person) => side.setPresence(person));
client.channel.on("room", (name) => side.addRoom(name));
client.channel.on("unread", (room) => side.count(room));
client.channel.on("seen", (where) => side.forget(where));
client.channel.on("typing", (sign) => sign.place === place && typing.add(sign.name));
client.channel.on("said", (message) => {
  const isMine = message.from === me;
  if (placeOf(message) === place) {
    typing.remove(message.from);
    log.add(message, isMine);
    if (!document.hidden) return isMine || look();
  }
  if (!isMine) side.count(placeOf(message));
});

// What we say

function say() {
  const words = text.value.trim();
  if (!words) return;
  // Not randomUUID, which browsers have for https and localhost only.
  const key = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const message = { key, from: me, to: place, text: words, at: Date.now() / 1000 };
  unsent.set(key, message);
  text.value = "";
  typing.finish();
  showUnsent(message);
  deliver();
}

function showUnsent(message) {
  if (message.to !== place) return;
  log.add(message, true);
  if (message.problem) log.fail(message, message.problem, () => tryAgain(message));
}

function tryAgain(message) {
  message.problem = "";
  showUnsent(message);
  deliver();
  text.focus(); // the button is gone
}

/** Sends what the server does not have, one after the other: calls may overtake each other. */
async function deliver() {
  if (isDelivering) return;
  isDelivering = true;
  while (isReady()) {
    const message = [...unsent.values()].find(({ problem }) => !problem);
    if (!message) break;
    await deliverOne(message);
  }
  isDelivering = false;
}

/** The key makes a message count once, however often it goes out. */
async function deliverOne(message) {
  const { key, to, text } = message;
  try {
    // No timeout: while the link is away, it waits.
    const said = await client.call("say", { key, place: to, text }, { timeout: null });
    unsent.delete(key);
    if (to === place) log.add(said, true);
  } catch (error) {
    if (isLost(error)) return; // with the server; the next one hears it again
    message.problem = wordsFor(error);
    showUnsent(message);
  }
}

byId("write").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
  text.focus();
});
text.addEventListener("keydown", (event) => {
  // While an input method composes a word, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say();
});
text.addEventListener("input", () => {
  if (text.value && isReady() && typing.isDue()) client.send("typing", place);
});

byId("add-room").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("room-problem").textContent = "";
  try {
    const name = await client.call("add_room", byId("room-name").value);
    event.target.reset();
    location.hash = new URLSearchParams({ in: name });
  } catch (error) {
    byId("room-problem").textContent = wordsFor(error);
  }
});

// What the server asks this page

client.register("describe", () => ({
  place,
  width: innerWidth,
  height: innerHeight,
  theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  language: navigator.language,
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
}));

byId("ask").addEventListener("click", async () => {
  const list = byId("devices-list");
  list.replaceChildren(make("li", { text: "Asking…" }));
  byId("devices").showModal();
  try {
    const pages = await client.call("devices");
    list.replaceChildren(...pages.map(itemOfPage));
  } catch (error) {
    list.replaceChildren(make("li", { text: wordsFor(error) }));
  }
});

function itemOfPage(sees, index) {
  const name = make("b", { text: index === 0 ? "This page" : "Another page" });
  if (!sees) return make("li", {}, name, " does not answer.");
  const { width, height, theme, language, zone } = sees;
  const facts = `${width} × ${height} pixels, ${theme} theme, ${language}, ${zone}`;
  return make("li", {}, name, ` shows ${titleOf(sees.place)}`, make("p", { text: facts }));
}

// The link

const BACK = "You are connected again.";
let wasLost = false;
let lastReason = "";

client.when.closed((code, reason) => (lastReason = reason));
client.when.updated((status) => {
  if (status === WSE_STATUS.READY) {
    banner.textContent = wasLost ? BACK : "";
    setTimeout(() => banner.textContent === BACK && (banner.textContent = ""), 3000);
  } else {
    clock.stop();
  }
  if (status === WSE_STATUS.CONNECTING) banner.textContent = "Connecting…";
  if (status === WSE_STATUS.RE_CONNECTING) {
    banner.textContent = "The connection is lost. What you write is sent when it is back.";
  }
  if (status === WSE_STATUS.OFFLINE) giveUp();
  wasLost = status === WSE_STATUS.RE_CONNECTING;
});

function giveUp() {
  if (lastReason === WSE_REASON.BY_CLIENT) return; // the page is being left
  if (lastReason === WSE_REASON.NOT_AUTHORIZED || lastReason === "chat.logged-out") {
    location.reload(); // the server shows the form then
    return;
  }
  const tooMany = lastReason === WSE_REASON.CLIENTS_CONCURRENCY;
  banner.replaceChildren(
    tooMany ? "You have opened the chat in too many places. " : "The server has hung up. ",
    make("button", { text: "Use this page", onclick: () => location.reload() }),
  );
}

client.when.ready((name) => {
  if (name !== me) return location.reload(); // somebody else has logged in, in another tab
  read().catch(complain);
  clock.set().catch(complain);
  deliver();
});

go(placeInUrl());
client.connect().catch(() => {}); // the banner says so
