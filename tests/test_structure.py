"""The structure that docs/explanation/design.md promises, read from the source with ast.

The tables at the head are the whole rule: a new module is put into LAYERS, or the first test
fails.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import wse_sync

# Lowest layer first. A module imports from its own layer and from those before it. A name that
# ends with a dot stands for the subpackage and everything in it.
LAYERS = (
    (
        "words",
        (
            "clock",
            "errors",
            "constants",
            "stats",
            "checks",
            "challenges",
            "backoff",
            "target",
            "tokens",
            "forks",
            "loglimit",
        ),
    ),
    ("protocol", ("protocol",)),
    ("core", ("core.",)),
    ("edges", ("transport.", "signals", "channel", "procedures")),
    (
        "runtime",
        (
            "gate",
            "leaving",
            "rates",
            "loop",
            "outbox",
            "workers",
            "dispatch",
            "futures",
            "tally",
            "turn",
            "link",
            "endpoint",
            "callers",
            "sending",
            "exchange",
            "service",
            "connection",
            "interrupts",
        ),
    ),
    (
        "sides",
        (
            "attempt",
            "life",
            "addresses",
            "strangers",
            "expiry",
            "registry",
            "auth",
            "sessions",
            "farewell",
            "conversation",
        ),
    ),
    ("entry", ("script", "hosts", "wsgi", "standalone", "inprocess")),
    ("ends", ("client", "audience", "server")),
    ("frameworks", ("flask", "prometheus")),
    ("tests", ("testing",)),
    ("names", ("__init__", "__main__")),
)

# Neither of the two sides imports the other, whatever their layers allow.
STRANGERS = (
    ("client", "life", "attempt"),
    (
        "addresses",
        "strangers",
        "expiry",
        "registry",
        "auth",
        "sessions",
        "farewell",
        "audience",
        "server",
        "script",
        "hosts",
        "wsgi",
        "standalone",
        "inprocess",
    ),
)

# The one module that imports each third-party package.
THIRD_PARTY = {
    "blinker": "signals",
    "flask": "flask",
    "prometheus_client": "prometheus",
    "simple_websocket": "transport.accepted",
    "websocket": "transport.dialed",
    "werkzeug": "flask",
    "wsproto": "transport.accepted",
}

# Those that are needed by whoever imports that module, and by nobody else.
OPTIONAL = {"flask", "prometheus_client", "werkzeug"}

# Who may read the time of the system. All others go by clock.monotonic(), which tests can move.
# These wait for threads to end, see how quick a procedure is, or are for tests themselves.
REAL_TIME = {
    "clock",
    "client",
    "farewell",
    "inprocess",
    "interrupts",
    "life",
    "loop",
    "server",
    "service",
    "standalone",
    "testing",
    "workers",
}

# What core/ knows nothing of: sockets, threads, clocks, loggers, the system.
NOT_IN_CORE = {
    "asyncio",
    "concurrent",
    "datetime",
    "logging",
    "multiprocessing",
    "os",
    "queue",
    "sched",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "_thread",
}

# What importing may load of the standard library beyond what the dependencies load. A module that
# is needed once a server listens, or a client dials, is imported there.
LOADED = {"bisect", "json", "random", "secrets"}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

PACKAGE = Path(wse_sync.__file__).parent


def name_of(path: Path) -> str:
    """`wse_sync/core/peer.py` is core.peer, and `core/__init__.py` is core.__init__."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}


def layer(module: str) -> int | None:
    for height, (_, members) in enumerate(LAYERS):
        for member in members:
            if module == member or (member.endswith(".") and module.startswith(member)):
                return height
    return None


def imported(module: str) -> Iterator[str]:
    """The absolute names of everything that `module` imports, also inside functions.

    What only the type checker sees does not count: nothing is imported then.
    """
    here = ["wse_sync", *module.split(".")][:-1]
    for node in running(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield ".".join([*base, alias.name])


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node`, but for the bodies of `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        typing_only = (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        )
        if not typing_only:
            yield from running(child)


def resolve(name: str) -> str:
    """The module of ours that `wse_sync.<name>` means: itself, its package, or its owner."""
    for candidate in (name, f"{name}.__init__".lstrip("."), name.rpartition(".")[0]):
        if candidate in SOURCES:
            return candidate
    return f"{name.rpartition('.')[0]}.__init__".lstrip(".")


def ours(module: str) -> set[str]:
    """The modules of this package that `module` imports."""
    names = {name for name in imported(module) if name.partition(".")[0] == "wse_sync"}
    return {resolve(name.partition(".")[2]) for name in names}


def others(module: str) -> set[str]:
    """The packages outside this one that `module` imports."""
    return {name.partition(".")[0] for name in imported(module)} - {"wse_sync"}


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_has_a_layer(module: str) -> None:
    assert layer(module) is not None, f"put {module} into LAYERS"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_to_the_same_layer_or_an_earlier_one(module: str) -> None:
    height = layer(module)
    assert height is not None
    for target in ours(module):
        below = layer(target)
        assert below is not None and below <= height, f"{module} imports {target}"


def test_client_and_server_do_not_know_each_other() -> None:
    for side, other in (STRANGERS, STRANGERS[::-1]):
        for module in SOURCES.keys() & set(side):
            assert not ours(module) & set(other), module


def test_each_third_party_package_is_imported_in_its_one_module() -> None:
    importers = {
        package: {module for module in SOURCES if package in others(module)}
        for package in THIRD_PARTY
    }
    assert importers == {package: {module} for package, module in THIRD_PARTY.items()}


def test_the_time_of_the_system_is_read_where_it_has_to_be() -> None:
    assert {module for module in SOURCES if "time" in others(module)} == REAL_TIME


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_else_but_the_standard_library_is_imported(module: str) -> None:
    foreign = {name for name in others(module) if not in_standard_library(name)}
    assert foreign <= set(THIRD_PARTY)


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("core.")])
def test_core_knows_only_the_layers_before_it_and_pure_python(module: str) -> None:
    assert not others(module) & (NOT_IN_CORE | set(THIRD_PARTY))
    allowed = {"errors", "constants", "checks", "protocol"}
    for target in ours(module):
        assert target in allowed or target.startswith("core."), f"{module} imports {target}"


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_outgrows_a_reader(module: str) -> None:
    lines = SOURCES[module].read_text("utf-8").count("\n")
    assert lines <= MAX_MODULE_LINES


@pytest.mark.parametrize("module", SOURCES)
def test_no_function_outgrows_a_screen(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert code_lines(node) <= MAX_FUNCTION_LINES, f"{module}.{node.name}"


def test_importing_starts_no_thread_opens_no_socket_and_configures_no_logging() -> None:
    """A fresh interpreter, since this one has imported much more."""
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run([sys.executable, "-W", "error", "-c", IMPORT], check=True, env=environ)


IMPORT = """
import gc, logging, socket, sys, threading
import wse_sync
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert not [item for item in gc.get_objects() if isinstance(item, socket.socket)]
assert not logging.root.handlers
assert logging.root.level == logging.WARNING
assert not {"wse_sync.testing", "wse_sync.inprocess"} & set(sys.modules)
assert not {"flask", "prometheus_client"} & set(sys.modules)
"""


def test_importing_loads_little_that_the_dependencies_have_not_loaded() -> None:
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", LOAD, *(set(THIRD_PARTY) - OPTIONAL)]
    loaded = subprocess.check_output(command, text=True, env=environ).split()
    packages = {name.partition(".")[0] for name in loaded}
    assert {name for name in packages if not name.startswith("_")} <= {"wse_sync", *LOADED}


LOAD = """
import sys
for name in sys.argv[1:]:
    __import__(name)
before = set(sys.modules)
import wse_sync
wse_sync.WseServer, wse_sync.WseClient
print(*sorted(sys.modules.keys() - before))
"""


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from its first statement on, without its docstring."""
    body = function.body
    if len(body) > 1 and ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def in_standard_library(package: str) -> bool:
    """Asks the import system, since 3.9 has no list of its standard library."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    if spec.origin in ("built-in", "frozen"):
        return True
    origin = Path(spec.origin).resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return library in origin.parents and "site-packages" not in origin.parts
