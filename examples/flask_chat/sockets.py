"""The WebSocket: who is here, what is said to whom, and what the server asks pages.

A connection is one page, so one tab; a user may have several, on several devices. Messages of one
page are handled one at a time and in order; those of two pages, and calls, at the same time.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from math import inf
from time import monotonic
from typing import Any

from flask import current_app
from flask_login import current_user

from wse_sync import AuthRequest, WseConnection, WseConnectionError, WseError
from wse_sync.flask import WseFlask

from . import models
from .models import Message, Room, User, db

MAX_TEXT = 2000  # characters of a message
MAX_KEY = 64  # characters; pages make shorter ones
MAX_ROOMS = 100
MAX_PEOPLE_BYTES = 16 * 1024  # of the list that a page begins with: some hundred people
TYPING_PAUSE = 1.0  # s from one sign of a page to the next that is passed on
ANSWER_TIMEOUT = 3.0  # s for a page to say what it sees


def identify(auth: AuthRequest) -> None:
    """Lets in who has logged in: the browser sends the session's cookie along."""
    if current_user.is_authenticated:
        auth.accept(current_user.name, current_user.name)
    else:
        auth.refuse()


wse = WseFlask(
    identify=identify,
    conn_per_user=8,
    max_message_bytes=64 * 1024,
    rate_limit=(200, 20.0),  # well above what a page does: each request may take a thread
)

# Held while something is looked up or written, and told. So every page hears of things in the order
# in which they happened: the last number of somebody's devices is the true one, and a page that has
# a message has all those before it, so that the last id which it has says what it misses. And no
# login ends between the look at it and the note which page has it. It is taken before the database
# is: whoever waits here must not keep one of its few connections.
telling = threading.Lock()


def pages() -> Iterator[WseConnection]:
    """Those of everybody."""
    for client in wse.clients.values():
        yield from client.conns.values()


def tell(page: WseConnection, type: str, payload: Any) -> None:
    """Sends to one page, or to none if it has just gone."""
    with suppress(WseConnectionError):
        page.send(type, payload)


# Who is here


@wse.when.connected
def connected(page: WseConnection) -> None:
    with telling:
        if not current_user.is_authenticated:  # logged out since it was let in
            page.drop("chat.logged-out")
            return
        page.data["login"] = current_user.id
        tell(page, "state", state_for(page.cid))
        wse.broadcast("presence", presence(page.cid))


@wse.when.disconnected
def disconnected(page: WseConnection, code: int, reason: str) -> None:
    tell_presence(page)


@wse.when.suspended
@wse.when.resumed
def tell_presence(page: WseConnection) -> None:
    with telling:
        wse.broadcast("presence", presence(page.cid))


def presence(name: str) -> dict[str, Any]:
    """How many devices of a user are here, and how many of those have no link at the moment."""
    client = wse.clients.get(name)
    states = [] if client is None else [page.state for page in client.conns.values()]
    return {"name": name, "devices": len(states), "away": states.count("suspended")}


def state_for(me: str) -> dict[str, Any]:
    """What a page has to know before anything else.

    Of too many users it is told those who matter most to it. The others come when they log in.
    """
    names = [me, *wse.clients, *models.partners(me), *models.names_of(User)]
    people = models.fitting(map(presence, dict.fromkeys(names)), MAX_PEOPLE_BYTES)
    places = {f"@{person['name']}" for person in people}
    unseen = {place: count for place, count in models.unseen(me).items() if place in places}
    return {"rooms": models.names_of(Room), "people": people, "unseen": unseen}


def log_out(name: str, login_id: str) -> None:
    """Ends the pages in one browser of a user, and none elsewhere."""
    client = wse.clients.get(name)
    with telling:
        for page in [] if client is None else client.conns.values():
            if page.data.get("login") == login_id:
                page.drop("chat.logged-out")


# What is said


def text_of(value: Any) -> str:
    """Text as the database takes it: without halves of characters."""
    if not isinstance(value, str):
        raise WseError("chat.bad-request")  # not from a page of ours
    return value.encode(errors="ignore").decode()


def id_of(value: Any) -> int | None:
    """That of a message, if there is one at all."""
    if value is not None and not (isinstance(value, int) and abs(value) < 2**63):
        raise WseError("chat.bad-request")
    return value


@wse.channel.on("reading")
def reading(page: WseConnection, payload: Any) -> None:
    """The page shows another place, and gets what is said there from now on.

    This is a message, since those are handled before the calls that come after them. So what is
    said before this is in the history that the page calls for next, and the rest is sent to it.
    """
    place = page.data["place"] = text_of(payload)
    if place.startswith("@"):
        models.mark_seen(place, page.cid)
        wse.send(page.cid, "seen", place)


@wse.register("history")
def history(page: WseConnection, query: dict[str, Any]) -> dict[str, Any]:
    place, before, after = (query.get(name) for name in ("place", "before", "after"))
    return models.history(page.cid, text_of(place), id_of(before), id_of(after))


@wse.register("say")
def say(page: WseConnection, wanted: dict[str, Any]) -> dict[str, Any]:
    """Notes a message and passes it on.

    A page that lost its link does not know whether it was heard. So it says the same again, with
    the same key, and here that counts once.
    """
    key, place, text = (text_of(wanted.get(name)) for name in ("key", "place", "text"))
    key, text = key[:MAX_KEY], clean_text(text)
    with telling:
        if not models.is_place(place):
            raise WseError("chat.no-such-place")
        message = models.message_with_key(page.cid, key)
        if message is None:
            check_rate(page.cid)
            message = models.add_message(page.cid, key, place, text)
            pass_on(message)
            page.data.pop("typed", None)  # what the page types next is news again
        return message.packed()


def clean_text(text: str) -> str:
    """Without what cannot be shown, such as control characters."""
    shown = [c for c in text if c == "\n" or unicodedata.category(c) != "Cc"]
    clean = "".join(shown).strip()
    if not clean:
        raise WseError("chat.empty")
    if len(clean) > MAX_TEXT:
        raise WseError("chat.too-long", {"most": MAX_TEXT})
    return clean


def check_rate(name: str) -> None:
    count, seconds = current_app.config["MAX_RATE"]
    # Asked of the database: a count in memory would begin anew with each tab and each reconnect.
    if models.said_lately(name, seconds) >= count:
        raise WseError("chat.too-fast", {"count": count, "seconds": seconds})


def pass_on(message: Message) -> None:
    """To every device of the two; of a room, to the pages that show it. Others hear of it."""
    said = message.packed()
    if message.recipient is not None:
        for name in {message.sender, message.recipient}:
            wse.send(name, "said", said)
        return
    for page in pages():
        if page.data.get("place") == message.room:
            tell(page, "said", said)
        else:
            tell(page, "unread", message.room)


@wse.channel.on("typing")
def typing(page: WseConnection, payload: Any) -> None:
    """Passes the sign on. It is forgotten if it comes too often, so it needs no other limit."""
    place = text_of(payload)
    if monotonic() - page.data.get("typed", -inf) < TYPING_PAUSE:
        return
    page.data["typed"] = monotonic()
    sign = {"name": page.cid, "place": place}
    if place.startswith("@"):
        wse.send(place[1:], "typing", {**sign, "place": f"@{page.cid}"})
        return
    for other in pages():
        if other.data.get("place") == place and other.cid != page.cid:
            tell(other, "typing", sign)


@wse.register("add_room")
def add_room(page: WseConnection, wanted: Any) -> str:
    """Opens a room, or finds the one that there is; returns its name."""
    name = models.clean_name(text_of(wanted))
    if name is None:
        raise WseError("chat.bad-name")
    with telling:
        if db.session.get(Room, name) is None:
            if len(models.names_of(Room)) >= MAX_ROOMS:
                raise WseError("chat.too-many-rooms", {"most": MAX_ROOMS})
            db.session.add(Room(name=name))
            db.session.commit()
            wse.broadcast("room", name)
    return name


# What the server asks pages, and the other way round


@wse.register("devices")
def devices(page: WseConnection, _: Any) -> list[Any]:
    """Has every page of the user say what it sees, all at the same time; this one comes first."""
    assert page.client is not None
    others = [other for other in page.client.conns.values() if other is not page]
    asked = []
    for other in (page, *others):
        with suppress(WseConnectionError):  # it has just gone
            asked.append(other.submit("describe", timeout=ANSWER_TIMEOUT))
    return [answer(future) for future in asked]


def answer(future: Future[Any]) -> Any:
    """What the page said; None if it has no link, takes too long, or has gone."""
    try:
        return future.result()
    except WseError:
        return None


@wse.register("clock")
def clock(page: WseConnection, _: Any) -> dict[str, Any]:
    """The server's time. Pages ask now and then, and let it tick by themselves."""
    now = datetime.now().astimezone()
    offset = now.utcoffset()
    assert offset is not None
    return {"at": now.timestamp(), "offset": offset.total_seconds(), "zone": now.tzname()}
