"""Runs Autobahn's own test suite against both ends, and prints a table of what it says.

    python -m tests.autobahn WSTEST [CASES …]

WSTEST is its program; it needs Python 2.7 (``pip install autobahntestsuite`` there). CASES are
patterns like ``1.*``; without any, those of sections 1 to 7 and 10. Section 9 takes some minutes.
Ends with status 1 if a case failed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.autobahn.ends import EchoServer, echo, read_all

SECTIONS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
PATIENCE = 30.0  # s

Results = dict[str, dict[str, Any]]


def specify(directory: Path, **details: Any) -> Path:
    """Writes what the suite is to do."""
    path = directory / "spec.json"
    path.write_text(json.dumps({"outdir": str(directory), "exclude-cases": [], **details}))
    return path


def results(directory: Path, agent: str) -> Results:
    found: Results = json.loads((directory / "index.json").read_text())[agent]
    return found


def run_server(wstest: str, cases: list[str], directory: Path) -> Results:
    """Has its fuzzing client ask our server."""
    with EchoServer() as server:
        ours = {"agent": "server", "url": server.url, "protocols": [server.protocol.name]}
        spec = specify(directory, servers=[ours], cases=cases)
        command = [wstest, "-m", "fuzzingclient", "-s", str(spec)]
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return results(directory, "server")


def run_client(wstest: str, cases: list[str], directory: Path) -> Results:
    """Has our client ask its fuzzing server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    spec = specify(directory, url=url, cases=cases)
    command = [wstest, "-m", "fuzzingserver", "-s", str(spec), "-u", "0"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            (count,) = read_all(f"{url}/getCaseCount")
            for number in range(1, int(count) + 1):
                echo(f"{url}/runCase?case={number}&agent=client")
            read_all(f"{url}/updateReports?agent=client")
        finally:
            process.terminate()
    return results(directory, "client")


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def show(end: str, found: Results) -> bool:
    """Prints the results of one end; whether it passed."""
    counts = Counter(result["behavior"] for result in found.values())
    lines = [f"{end}: {len(found)} cases: {dict(counts)}"]
    for case, result in sorted(found.items()):
        verdict = result["behavior"], result["behaviorClose"]
        if set(verdict) != {"OK"}:
            lines.append(f"  {case}: {', '.join(verdict)}")
    sys.stdout.write("\n".join([*lines, ""]))
    return all({result["behavior"], result["behaviorClose"]} <= PASSED for result in found.values())


def main(wstest: str, *cases: str) -> int:
    wanted = list(cases) or SECTIONS
    passed = []
    for end, run in (("server", run_server), ("client", run_client)):
        with tempfile.TemporaryDirectory() as directory:
            passed.append(show(end, run(wstest, wanted, Path(directory))))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
