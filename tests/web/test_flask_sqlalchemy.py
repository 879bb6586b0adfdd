"""With Flask-SQLAlchemy: a database session goes back to the pool after every handler."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support import PATIENCE, Recorder, accept_all, wait_until
from tests.test_flask import make_app, serving
from wse_sync import WseConnection, WseError
from wse_sync.flask import WseFlask

flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy", reason="needs Flask-SQLAlchemy")
sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")

POOL = 5
CALLS = 200


@pytest.fixture
def database(tmp_path: Path) -> Any:
    """An application with five connections to its database, and not one more."""
    app = make_app(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'notes.db'}",
        SQLALCHEMY_ENGINE_OPTIONS={
            "poolclass": sqlalchemy.pool.QueuePool,
            "pool_size": POOL,
            "max_overflow": 0,
            "pool_timeout": PATIENCE,
            "connect_args": {"timeout": 60},  # s for the lock of the file; else it is 5
        },
    )
    db = flask_sqlalchemy.SQLAlchemy(app)
    with app.app_context():
        db.session.execute(sqlalchemy.text("CREATE TABLE notes (number INTEGER)"))
        db.session.commit()
    yield app, db
    with app.app_context():
        db.engine.dispose()


def test_200_calls_at_the_same_time_share_a_pool_of_5(database: Any, connect: Connect) -> None:
    app, db = database
    wse = WseFlask(app, identify=accept_all)
    most = Recorder()
    crowd = threading.Barrier(POOL)

    @wse.register("note")
    def note(conn: WseConnection, number: int) -> int:
        if number < POOL:
            # All of them are there at the same time, each with a connection of its own.
            db.session.execute(sqlalchemy.text("SELECT 1"))
            crowd.wait(PATIENCE)
        most.add(db.engine.pool.checkedout())
        db.session.execute(sqlalchemy.text("INSERT INTO notes VALUES (:n)"), {"n": number})
        db.session.commit()
        count = db.session.execute(sqlalchemy.text("SELECT count(*) FROM notes")).scalar_one()
        return int(count)

    with serving(app) as url:
        clients = [connect(url, f"user {number}") for number in range(10)]
        futures = [clients[number % 10].submit("note", number) for number in range(CALLS)]
        assert max(future.result(60) for future in futures) == CALLS
        # They have answered; what ends a context comes before the answer.
        assert db_engine(app, db).pool.checkedout() == 0
        assert max(most.items) <= POOL


def db_engine(app: Any, db: Any) -> Any:
    with app.app_context():
        return db.engine


def test_messages_signals_and_failures_give_theirs_back_too(
    database: Any, connect: Connect
) -> None:
    app, db = database
    wse = WseFlask(app, identify=accept_all)
    ran = Recorder()

    def use(*values: Any) -> None:
        db.session.execute(sqlalchemy.text("SELECT 1"))
        ran.add(values)

    wse.channel.on("use", use)
    wse.when.connected(use)
    wse.when.disconnected(use)

    @wse.register("fail")
    def fail(conn: WseConnection, payload: Any) -> None:
        db.session.execute(sqlalchemy.text("INSERT INTO notes VALUES (1)"))
        raise LookupError("before the commit")

    with serving(app) as url:
        client = connect(url)
        for _ in range(3 * POOL):
            client.send("use")
            with pytest.raises(WseError):
                client.call("fail")
        client.disconnect()
        ran.wait_for(3 * POOL + 2)
        engine = db_engine(app, db)
        wait_until(lambda: engine.pool.checkedout() == 0)
        with app.app_context():
            rows = db.session.execute(sqlalchemy.text("SELECT count(*) FROM notes")).scalar_one()
        assert rows == 0, "what failed was not rolled back"
