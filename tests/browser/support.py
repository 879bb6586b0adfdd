"""A page with the browser's client, and what tests do in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import PATIENCE, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from selenium.webdriver import Chrome

POLICIES = {
    "strict": "default-src 'none'; script-src 'self'; connect-src 'self'",
    "foreign": "default-src 'none'; script-src 'self' http://127.0.0.1:*; connect-src *",
    "open": "default-src 'none'; script-src 'self'; connect-src ws://127.0.0.1:*",
}
"""Of the pages: nothing inline, nothing from elsewhere; "open" is for clients of other ports."""

_HERE = Path(__file__).parent
_PAGE = b'<!doctype html><title>wse</title><script type="module" src="harness.js"></script>'

# Runs the body of an async function with the arguments `a`, and says how it went.
_RUN = """
const [...a] = arguments, done = a.pop()
const work = async () => { %s }
work().then((value) => done({ value: plain(value) }), (error) => done({ error: plain(error) }))
"""


def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The pages, as the HTTP app of a server: each has the name of its policy."""
    name, _, file = environ["PATH_INFO"].strip("/").partition("/")
    body, kind = _PAGE, "text/html"
    if file:
        body, kind = (_HERE / file).read_bytes(), "text/javascript"
    if name not in POLICIES:
        start_response("404 Not Found", [("Content-Length", "0")])  # the icon of the site
        return []
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start_response("200 OK", [*headers, ("Content-Security-Policy", POLICIES[name])])
    return [body]


class ScriptError(Exception):
    """What a script in the page threw."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.name: str = error["name"]
        self.message: str = error["message"]
        self.code: Any = error.get("code")
        self.details: Any = error.get("details")


class Task:
    """A script that runs in a page."""

    def __init__(self, page: Page, number: int) -> None:
        self._page = page
        self._number = number

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return bool(self._page.run("return tasks[a[0]].done", self._number))

    def result(self, patience: float = PATIENCE) -> Any:
        """Waits for its end; returns or raises what it did."""
        wait_until(lambda: self.is_done, "the end of a script", patience)
        return self._page.run("return tasks[a[0]].promise", self._number)


class Page:
    """A page in the browser, loaded from a server.

    Scripts are bodies of async functions. They find the arguments in ``a``, and `make`, `client`
    and `log` of the harness.
    """

    def __init__(self, driver: Chrome, url: str) -> None:
        self._driver = driver
        driver.get(url)
        wait_until(lambda: driver.execute_script("return !!window.plain"), self.console)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script; returns what it returned.

        Raises:
            ScriptError: It threw.
        """
        outcome = self._driver.execute_async_script(_RUN % script, *arguments)
        if "error" in outcome:
            raise ScriptError(outcome["error"])
        return outcome["value"]

    def start(self, script: str, *arguments: Any) -> Task:
        """Starts a script and does not wait for it."""
        return Task(self, self.run(f"return begin(async () => {{ {script} }})", *arguments))

    def wait_for(self, condition: str, *arguments: Any) -> None:
        """Waits until an expression is true."""
        wait_until(
            lambda: self.run(f"return Boolean({condition})", *arguments),
            lambda: f"{condition}; {self.run('return log.slice(-20)')}; {self.console()[-5:]}",
        )

    def log(self, name: str) -> list[Any]:
        """What a signal of the clients said so far: its value, or its values."""
        entries = self.run("return log.filter(([name]) => name === a[0])", name)
        return [entry[1] if len(entry) == 2 else entry[1:] for entry in entries]

    def console(self) -> list[Any]:
        """What the console shows."""
        return list(self._driver.execute("getLog", {"type": "browser"})["value"])

    def close(self) -> None:
        """Leaves the page."""
        self._driver.get("about:blank")

    def back(self) -> None:
        """Returns to the page that was left."""
        self._driver.back()
