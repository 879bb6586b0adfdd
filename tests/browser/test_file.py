"""What can be said of the script without a browser: its size, its types, its words."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import wse_sync
from wse_sync import WSE_ERROR, WSE_REASON, WSE_STATUS
from wse_sync.constants import RETRY_CODES

SCRIPT = Path(wse_sync.__file__).parent / "static" / "wse.js"
MAX_BYTES = 5 * 1024

TSC = os.environ.get("TSC") or shutil.which("tsc")
OPTIONS = ["--allowJs", "--checkJs", "--strict", "--noEmit", "--target", "es2022"]

# What an application may write, and what it may not.
APPLICATION = """
import { WSE_ERROR, WSE_REASON, WSE_STATUS, WseClient, WseError } from "./wse.js"

const client = new WseClient("/ws", {
    reconnect: true,
    backoff: { initial: 500 },
    callTimeout: null,
    connectTimeout: 5000,
    pingTimeout: null,
})
client.challenge(async (quest) => quest * 2)
client.register("whoami", (payload) => payload.name)
client.unregister("whoami")
const said = client.channel.on("said", (payload) => console.log(payload.text))
client.channel.once("said", async (payload) => payload)
client.channel.off("said", said)
client.when.ready((welcome) => console.log(welcome.name))
client.when.closed.off(client.when.closed((code, reason) => console.log(code, reason)))

export async function main(): Promise<number> {
    const welcome = await client.connect(async () => "token", { tab: 1 })
    client.send("say")
    client.send("say", welcome)
    const signal = new AbortController().signal
    const sum: number = await client.call("add", [2, 3], { timeout: null, signal })
    await client.jump(new URL("wss://example.org/ws"), { identity: "ann" })
    await client.disconnect()
    await client.disconnect(WSE_REASON.BY_CLIENT)
    const status: string = client.status
    const cid: string | null = client.cid
    if (status === WSE_STATUS.OFFLINE) throw new WseError("my-code", { cid }, client.url)
    return sum
}

export function explain(error: unknown): unknown {
    return error instanceof WseError && error.code === WSE_ERROR.RP_TIMEOUT && error.details.rp
}

// @ts-expect-error
client.send(5)
// @ts-expect-error
client.call("add", 1, { timeout: "5" })
// @ts-expect-error
client.when.rady(() => 0)
// @ts-expect-error
new WseClient("/ws", { reConnect: true })
"""


def test_it_is_small() -> None:
    assert len(gzip.compress(SCRIPT.read_bytes(), 9)) < MAX_BYTES


def test_it_needs_nothing_else() -> None:
    text = SCRIPT.read_text("utf-8")
    assert not re.findall(r"\bimport\b|\brequire\b|\beval\b|\bFunction\(", text)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.skipif(not TSC, reason="tsc is neither on the PATH nor named by TSC")
def test_a_type_checker_accepts_it_and_knows_what_an_application_may_do(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "application.ts").write_text(APPLICATION, "utf-8")
    command = [str(TSC), *OPTIONS, "--lib", "es2022,dom", "wse.js", "application.ts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("words", [WSE_ERROR, WSE_REASON, WSE_STATUS])
def test_its_words_are_those_of_the_package(
    words: type[WSE_ERROR | WSE_REASON | WSE_STATUS],
) -> None:
    text = SCRIPT.read_text("utf-8")
    block = re.search(rf"export const {words.__name__} = {{\n(.*?)\n}}", text, re.DOTALL)
    assert block is not None
    pairs = re.findall(r'^\t(\w+): "(.*)",$', block[1], re.MULTILINE)
    assert pairs == [(word.name, word.value) for word in words]


def test_it_comes_back_after_the_same_codes() -> None:
    listed = re.search(r"RETRY_CODES = \[(.*)\]", SCRIPT.read_text("utf-8"))
    assert listed is not None
    assert set(map(int, listed[1].split(", "))) == RETRY_CODES
