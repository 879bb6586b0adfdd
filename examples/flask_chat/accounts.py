"""Who somebody is: signing up, logging in and out, and the page that needs it."""

from __future__ import annotations

import hmac
import secrets
from typing import Union

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import LoginManager, current_user, login_required, login_user, logout_user
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from .models import Login, User, clean_name, db, forget_logins
from .sockets import MAX_TEXT, log_out

MIN_PASSWORD = 8

Page = Union[str, Response]

accounts = Blueprint("accounts", __name__)
logins = LoginManager()
logins.login_view = "accounts.login"
logins.login_message = None


@logins.user_loader
def load_login(login_id: str) -> Login | None:
    return db.session.get(Login, login_id)


@accounts.before_app_request
def refuse_forged_forms() -> None:
    """A page of somebody else can send a form here, but cannot know what is in the session."""
    token = session.setdefault("csrf", secrets.token_hex(16))
    given = request.form.get("csrf", "")
    if request.method == "POST" and not hmac.compare_digest(token.encode(), given.encode()):
        abort(400, "This form is too old. Go back, reload the page and try again.")


@accounts.get("/")
@login_required
def chat() -> Page:
    return render_template("chat.html", max_text=MAX_TEXT)


@accounts.route("/login", methods=["GET", "POST"])
def login() -> Page:
    """The form for both: the two buttons say whether to log in or to sign up."""
    if request.method == "POST":
        name, password = clean_name(request.form["name"]), request.form["password"]
        sign_up = request.form.get("action") == "sign-up"
        user = signed_up(name, password) if sign_up else found(name, password)
        if user is not None:
            enter(user)
            return redirect(url_for(".chat"))
    elif current_user.is_authenticated:
        return redirect(url_for(".chat"))
    return render_template("login.html", min_password=MIN_PASSWORD)


def found(name: str | None, password: str) -> User | None:
    user = None if name is None else db.session.get(User, name)
    if user is None or not user.has_password(password):
        flash("There is no user with this name and this password.")
        return None
    return user


def signed_up(name: str | None, password: str) -> User | None:
    if name is None:
        flash("A name is one word: up to 20 letters, digits, - and _.")
        return None
    if len(password) < MIN_PASSWORD:
        flash(f"A password has at least {MIN_PASSWORD} characters.")
        return None
    user = User(name=name)
    user.set_password(password)
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:  # the database knows best: two may sign up at once
        db.session.rollback()
        flash(f"Somebody is called {name} already.")
        return None
    return user


def enter(user: User) -> None:
    session.clear()  # nothing of a session that somebody else may have prepared
    session.permanent = True
    forget_logins(current_app.permanent_session_lifetime.total_seconds())
    login = Login(id=secrets.token_hex(16), name=user.name)
    db.session.add(login)
    db.session.commit()
    login_user(login)


@accounts.post("/logout")
@login_required
def logout() -> Page:
    name, login_id = current_user.name, current_user.id
    db.session.execute(delete(Login).filter_by(id=login_id))
    db.session.commit()
    # The token of forms stays: another tab may be loading the one to log in.
    logout_user()
    log_out(name, login_id)
    return redirect(url_for(".login"))
