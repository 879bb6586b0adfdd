"""What outlives the process: users, rooms and messages."""

# No annotations from __future__: SQLAlchemy evaluates those of the columns, on Python 3.9 as well.

import json
import re
import time
import unicodedata
from collections.abc import Iterable
from typing import Any, Optional, Union

from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    UniqueConstraint,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.security import check_password_hash, generate_password_hash

PAGE = 50  # messages that are read at once, at most
PAGE_BYTES = 48 * 1024  # of those together, as JSON; the longest fits, whatever is in it
MAX_NAMES = 500  # that are read at once


class Base(DeclarativeBase):
    """Of the models. db.Model would do as well; type checkers know what this is."""


db = SQLAlchemy(model_class=Base)


class User(Base):
    __tablename__ = "user"

    name: Mapped[str] = mapped_column(primary_key=True)
    password_hash: Mapped[str]

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


class Login(UserMixin, Base):
    """A browser in which a user has logged in; who logs out there ends it.

    It is what Flask-Login looks up, so that the cookie of a login that is over is worth nothing,
    whoever has kept it.
    """

    __tablename__ = "login"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey(User.name))
    at: Mapped[float] = mapped_column(default=time.time)  # s since 1970


class Room(Base):
    __tablename__ = "room"

    name: Mapped[str] = mapped_column(primary_key=True)


class Message(Base):
    """Something that was said, in a room or to a user.

    Pages show it in a *place*: the name of the room, or ``@`` and the name of the other user.
    """

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("sender", "key"),
        Index("message_in_room", "room", "id"),
        Index("message_between", "recipient", "sender", "id"),
        Index("message_of_sender", "sender", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]  # made by the page; the same one when it tries again
    sender: Mapped[str] = mapped_column(ForeignKey(User.name))
    room: Mapped[Optional[str]] = mapped_column(ForeignKey(Room.name))
    recipient: Mapped[Optional[str]] = mapped_column(ForeignKey(User.name))
    text: Mapped[str]
    at: Mapped[float] = mapped_column(default=time.time)  # s since 1970
    seen: Mapped[bool] = mapped_column(default=False)  # by the recipient

    def packed(self) -> dict[str, Any]:
        """As it travels."""
        return {
            "id": self.id,
            "key": self.key,
            "from": self.sender,
            "to": self.room or f"@{self.recipient}",
            "text": self.text,
            "at": self.at,
        }


def create_tables() -> None:
    """Makes what the database does not have yet."""
    db.create_all()
    with db.engine.begin() as connection:
        # Then readers do not wait for the writer. SQLite notes it in the file.
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    if db.session.get(Room, "lobby") is None:
        db.session.add(Room(name="lobby"))
        db.session.commit()


def clean_name(text: str) -> Optional[str]:
    """The name of a user or room as it is kept, one word in lower case; None if it is none."""
    name = unicodedata.normalize("NFKC", text).strip().lower()
    return name if re.fullmatch(r"\w[\w-]{0,19}", name) else None


def names_of(model: Union[type[User], type[Room]]) -> list[str]:
    """The first in the alphabet, up to MAX_NAMES."""
    return list(db.session.scalars(select(model.name).order_by(model.name).limit(MAX_NAMES)))


def partners(me: str) -> list[str]:
    """With whom a user has private conversations, up to MAX_NAMES; the latest come first."""
    other = case((Message.sender == me, Message.recipient), else_=Message.sender)
    private = Message.recipient.is_not(None) & ((Message.sender == me) | (Message.recipient == me))
    query = select(other).where(private).group_by(other).order_by(func.max(Message.id).desc())
    return list(db.session.scalars(query.limit(MAX_NAMES)))


def messages_in(place: str, me: str) -> ColumnElement[bool]:
    """Which messages a user sees in a place."""
    if place[:1] != "@":
        return Message.room == place
    other = place[1:]
    mine = (Message.sender == me) & (Message.recipient == other)
    theirs = (Message.sender == other) & (Message.recipient == me)
    return mine | theirs


def history(
    me: str, place: str, before: Optional[int] = None, after: Optional[int] = None
) -> dict[str, Any]:
    """The newest messages that a user sees in a place, in order, and whether there are older ones.

    Fewer if they are long: all of them are one answer, and what the WebSocket carries has a limit.

    Args:
        before, after: Count only those between messages of these ids.
    """
    query = select(Message).where(messages_in(place, me)).order_by(Message.id.desc())
    if before is not None:
        query = query.where(Message.id < before)
    if after is not None:
        query = query.where(Message.id > after)
    found = db.session.scalars(query.limit(PAGE + 1)).all()
    newest = fitting((message.packed() for message in found[:PAGE]), PAGE_BYTES)
    return {"messages": newest[::-1], "more": len(found) > len(newest)}


def fitting(items: Iterable[dict[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    """As many of the first as take no more than so many bytes as JSON."""
    fit: list[dict[str, Any]] = []
    size = 0
    for item in items:
        size += len(json.dumps(item)) + 2  # and a comma
        if size > max_bytes:
            break
        fit.append(item)
    return fit


def forget_logins(seconds: float) -> None:
    """Ends those that are older; who comes back after that long logs in again."""
    db.session.execute(delete(Login).where(Login.at < time.time() - seconds))
    db.session.commit()


def message_with_key(sender: str, key: str) -> Optional[Message]:
    return db.session.scalar(select(Message).filter_by(sender=sender, key=key))


def is_place(place: str) -> bool:
    found = db.session.get(User, place[1:]) if place[:1] == "@" else db.session.get(Room, place)
    return found is not None


def add_message(sender: str, key: str, place: str, text: str) -> Message:
    message = Message(sender=sender, key=key, text=text)
    if place[:1] == "@":
        message.recipient = place[1:]
    else:
        message.room = place
    db.session.add(message)
    db.session.commit()
    return message


def said_lately(sender: str, seconds: float) -> int:
    """How many messages a user has sent within this time."""
    since = time.time() - seconds
    query = select(func.count()).where(Message.sender == sender, Message.at > since)
    return db.session.scalar(query) or 0


def unseen(me: str) -> dict[str, int]:
    """How many private messages a user has not seen, by place."""
    query = select(Message.sender, func.count()).where(Message.recipient == me, ~Message.seen)
    counts = db.session.execute(query.group_by(Message.sender))
    return {f"@{sender}": count for sender, count in counts}


def mark_seen(place: str, me: str) -> None:
    """Notes that a user has seen what the other one has written."""
    theirs = (Message.sender == place[1:]) & (Message.recipient == me) & ~Message.seen
    db.session.execute(update(Message).where(theirs).values(seen=True))
    db.session.commit()
