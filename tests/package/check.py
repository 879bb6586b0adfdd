"""Builds the package, installs the wheel alone and runs the quickstart with it.

Everything happens in a temporary directory, so nothing can be imported from the checkout: what
works here works for somebody who has only ``pip install wse-sync``. Needs ``build``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "wse_sync"

SDIST_HAS = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "examples/quickstart.py",
    "pyproject.toml",
    "setup.cfg",
    "tests/package/check.py",
    "tox.ini",
}

# What `pip install wse-sync[…]` is for: the modules of the same names.
EXTRAS = ("flask", "prometheus")

# Run by the fresh interpreter: the package comes from there, and a warning is an error.
IMPORT = """
import sys, wse_sync
assert wse_sync.__file__.startswith(sys.prefix), wse_sync.__file__
print("imported", wse_sync.__file__)
"""


def expect(condition: bool, message: str) -> None:
    """Ends the check with `message` unless `condition` holds."""
    if not condition:
        sys.exit(f"package check: {message}")


def run(*command: object, cwd: Path) -> None:
    """Runs `command` as somebody would who has no PYTHONPATH set."""
    words = [str(word) for word in command]
    print("$", *words, flush=True)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    status = subprocess.run(words, cwd=cwd, env=environ, timeout=600).returncode
    expect(status == 0, f"exit status {status} of {words}")


def build(out: Path) -> tuple[Path, Path]:
    """Builds the sdist from the checkout and the wheel from the sdist."""
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = SDIST_HAS - names
    expect(not missing, f"not in the sdist: {sorted(missing)}")


def check_wheel(wheel: Path) -> None:
    """The wheel holds every file of the package, those that are no Python too, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("static/*.js"), PACKAGE / "py.typed"]
    wanted = {source.relative_to(ROOT).as_posix() for source in sources}
    expect(names == wanted, f"wheel and checkout differ in {sorted(names ^ wanted)}")


def install(wheel: Path, directory: Path) -> Path:
    """Installs only the wheel and what it declares; returns the interpreter."""
    venv.create(directory, with_pip=True)
    python = directory / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=directory)
    run(python, "-m", "pip", "check", cwd=directory)
    return python


def check_extras(wheel: Path, python: Path, away: Path) -> None:
    """Each extra brings what its module imports."""
    for extra in EXTRAS:
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]", cwd=away)
        run(python, "-W", "error", "-c", f"import wse_sync.{extra}", cwd=away)
    run(python, "-m", "pip", "check", cwd=away)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name).resolve()
        for directory in ("dist", "away"):
            (temporary / directory).mkdir()
        sdist, wheel = build(temporary / "dist")
        check_sdist(sdist)
        check_wheel(wheel)
        python = install(wheel, temporary / "env")
        away = temporary / "away"
        shutil.copy(ROOT / "examples" / "quickstart.py", away)
        run(python, "-W", "error", "-c", IMPORT, cwd=away)
        run(python, "-W", "error", "quickstart.py", cwd=away)
        check_extras(wheel, python, away)
    print("package check: good")


if __name__ == "__main__":
    main()
