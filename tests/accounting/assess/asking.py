"""How the tests here ask: a file of units, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from jobimpact.cli.main import main

__all__ = ["INDICATORS", "as_process", "ask", "assessed", "facts", "refused", "units_in", "written"]

INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
HERE = Path(__file__).parent


def facts(name: str) -> dict[str, Any]:
    """A file of published figures."""
    found: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return found


def written(folder: Path, content: Any) -> Path:
    """A file of units: text as it is, anything else as YAML."""
    file = folder / "units.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


def ask(*words: str | Path) -> tuple[int, str, str]:
    """`jobimpact assess` in this process: exit status, output, errors."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["assess", *map(str, words)])
    return status, out.getvalue(), err.getvalue()


def as_process(*words: str | Path) -> str:
    """What `jobimpact assess` prints as a process of its own."""
    code = "import sys; from jobimpact.cli.main import main; sys.exit(main())"
    call = [sys.executable, "-c", code, "assess", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


def units_in(said: str) -> dict[str, dict[str, Any]]:
    """The units of a document, by name."""
    document = json.loads(said)
    assert document["schema"] == 1
    return {one["name"]: one for one in document["units"]}


def assessed(folder: Path, content: Any, *options: str | Path) -> dict[str, dict[str, Any]]:
    """What the command says of each unit, by name."""
    status, out, err = ask(written(folder, content), "--json", *options)
    assert (status, err) == (0, "")
    return units_in(out)


def refused(folder: Path, content: Any, *options: str | Path) -> str:
    """What the command says of a file that it does not take, without the file's name."""
    file = written(folder, content)
    status, out, err = ask(file, *options)
    assert (status, out) == (2, "")
    head = f"jobimpact: {file}: "
    assert err.startswith(head)
    return err.removeprefix(head).rstrip("\n")
