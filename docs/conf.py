"""How Sphinx builds the documentation. It needs no network."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

_setup = configparser.ConfigParser()
_setup.read(ROOT / "setup.cfg", "utf-8")

project = "wse_sync"
author = _setup["metadata"]["author"]
copyright = author
version = release = _setup["metadata"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "snippets"]
nitpicky = True  # a reference that leads nowhere is a warning
nitpick_ignore_regex = [
    # Nothing is fetched from the network, so what is not ours has no page to lead to.
    ("py:.*", r"(?!wse_sync\.(Wse|Auth|WSE_|Protocol|JsonProtocol|Backoff|challenges)).*"),
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
add_module_names = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"wse_sync {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"


def _lead_to_public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Leads `wse_sync.server.WseServer`, as annotations say, to `wse_sync.WseServer`."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or not target.startswith("wse_sync."):
        return None
    public = f"wse_sync.{target.rpartition('.')[2]}"
    if public == target:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node.get("reftype", "class"), public, node, content
    )


def _name_no_sentinels(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Shows defaults that only mean "not given" as a reader would write them."""
    if signature is not None:
        signature = re.sub(r"=(_KEEP|DEFAULT|blinker\.ANY)\b", "=...", signature)
    return signature, returns


def _hide_constructors(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Leaves out how to make what users do not make."""
    if what == "class" and name in ("wse_sync.channel.Channel", "wse_sync.signals.Signal"):
        del lines[lines.index("Args:") :]


def _mend_attributes(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Gives back what napoleon took for the type of an attribute: the words before a colon."""
    guesses = [line for line in lines if line.startswith(":type: ")]
    if what in ("attribute", "property") and guesses:
        lines.remove(guesses[0])
        lines[0] = f"{guesses[0][len(':type: ') :]}: {lines[0]}"


def _trim_code(app: Any, doctree: Any) -> None:
    """Drops the blank lines around a piece of a file."""
    for block in doctree.findall(lambda node: node.tagname == "literal_block"):
        text = block.astext().strip("\n")
        kind = type(block.children[0])
        block.rawsource = text
        block.children = []
        block.append(kind(text))


def setup(app: Any) -> None:
    app.connect("missing-reference", _lead_to_public_name)
    app.connect("autodoc-process-signature", _name_no_sentinels)
    app.connect("autodoc-process-docstring", _hide_constructors, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", _mend_attributes, priority=900)  # after it
    app.connect("doctree-read", _trim_code)
