"""Fuzzes the targets, and prints what came of it.

    python -m tests.fuzz [--inputs 1000000] [--targets framing,protocol,…] [--keep DIRECTORY]

With atheris the coverage guides; without it inputs of the corpus are mutated at random, other ones
each time. An input that fails is written into the current directory, and ends the run with a status
of 1. ``--keep`` writes what atheris found worth keeping.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz import mutate
from tests.fuzz.targets import SHARES, corpus, load

GUIDED = "import tests.fuzz.guided as guided; guided.main()"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--targets", default=",".join(SHARES), help="with commas between them")
    parser.add_argument("--keep", type=Path, help="a directory for new inputs")
    asked = parser.parse_args()
    names = asked.targets.split(",")
    whole = sum(SHARES[name] for name in names)
    fuzz = guided if importlib.util.find_spec("atheris") else unguided
    failed = False
    for name in names:
        begun = time.monotonic()
        count = asked.inputs * SHARES[name] // whole
        found = fuzz(name, count, asked.keep)
        failed |= found.startswith("FAILED")
        say(f"{name:10} {count:8} inputs {time.monotonic() - begun:6.0f} s  {found}")
    return int(failed)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def guided(name: str, count: int, keep: Path | None) -> str:
    """Has atheris fuzz a target in a process of its own: it never returns."""
    with tempfile.TemporaryDirectory() as temporary:
        kept = f"{temporary}/kept" if keep is None else str(keep / name)
        Path(kept).mkdir(parents=True, exist_ok=True)
        words = Path(temporary, "words")
        words.write_text("".join(f'"{escaped(token)}"\n' for token in mutate.TOKENS))
        options = [f"-runs={count}", f"-dict={words}", f"-max_len={mutate.MOST_BYTES}"]
        options += ["-timeout=10", "-rss_limit_mb=2048"]
        known = Path(temporary, "known")
        known.mkdir()
        for number, data in enumerate(corpus(name)):
            Path(known, str(number)).write_bytes(data)
        ran = subprocess.run(
            [sys.executable, "-c", GUIDED, name, *options, kept, str(known)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    told = ran.stdout.decode("utf-8", "replace")
    if ran.returncode:
        return f"FAILED\n{told[-4000:]}"
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\S+)", told)[-1]
    return "{} branches, {} features, {} inputs kept".format(*coverage)


def escaped(token: bytes) -> str:
    """A word of a dictionary of libFuzzer."""
    return "".join(f"\\x{byte:02x}" for byte in token)


def unguided(name: str, count: int, keep: Path | None) -> str:
    """Tries mutations of the corpus."""
    target, known = load(name), corpus(name)
    seed = time.time_ns()
    for _, data in zip(range(count), mutate.inputs(known, seed)):
        try:
            target(data)
        except Exception:
            Path(f"crash-{name}").write_bytes(data)
            return f"FAILED, see crash-{name}\n{traceback.format_exc()}"
    return f"seed {seed}"


if __name__ == "__main__":
    sys.exit(main())
