"""The documents say what the program does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from docs import reference
from jobimpact.cli import main as command
from jobimpact.core.config import Config, LocalStore, Store, load_config
from jobimpact.core.errors import ConfigError
from jobimpact.energy.summary import EnergySummary, KindEnergy, NodeDomain, NodeEnergy
from jobimpact.impact.assessment import FactorNotes, Indicator
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import load_inventory
from jobimpact.impact.parts import parts_of
from jobimpact.report.json import job_document
from jobimpact.results.record import JobResult
from jobimpact_daemon import cli as daemon
from jobimpact_daemon import recording
from jobimpact_daemon.replay import replay

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "daemon").glob("*.md")])
ALL = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
DEPLOY = ROOT / "deploy"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[list[str]]:
    """The lines of each fenced block."""
    return [found.strip("\n").split("\n") for found in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def helps(capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    """Each command, as it is typed, and what its --help prints."""
    listed = {"jobimpact": [*command._COMMANDS, ""], "jobimpactd": _daemon_commands()}
    for program, names in listed.items():
        for name in names:
            run = command.main if program == "jobimpact" else daemon.main
            with pytest.raises(SystemExit) as ended:
                run([name or "1", "--help"])
            assert ended.value.code == 0
            yield f"{program} {name}".strip(), capsys.readouterr().out


def _daemon_commands() -> list[str]:
    actions = daemon._parser()._subparsers
    assert actions is not None
    return list(actions._group_actions[0].choices or ())


def test_every_command_has_help_and_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says in words what it does, and it and each of its options stand in the documents."""
    for name, said in helps(capsys):
        assert len(said.split("\n\n")[1].split()) > 2, name
        assert re.search(rf"{name}\b", ALL), name
        for option in re.findall(r"^  (?:-\w, )?(--[a-z-]+)", said, re.MULTILINE):
            assert option == "--help" or option in ALL, f"{name} {option}"


def test_help_lists_every_command() -> None:
    """`jobimpact --help` names each command once, in their order, on a screen of 80 columns; so does the man page."""
    listed = command._HELP.partition("\ncommands ")[2]
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == list(command._COMMANDS)
    assert max(map(len, command._HELP.splitlines())) < 80
    manual = page("docs/man/jobimpact.1").partition("\n.SH COMMANDS\n")[2].partition("\n.SH ")[0]
    assert re.findall(r"^\.TP\n\.B (\w+)$", manual, re.MULTILINE) == list(command._COMMANDS)


def test_no_document_names_a_command_that_is_not_there() -> None:
    """A word after `jobimpact` or `jobimpactd` in code is a command, an option or a job's id."""
    known = {"jobimpact": set(command._COMMANDS), "jobimpactd": set(_daemon_commands())}
    code = [one for text in blocks(ALL) for one in text] + re.findall(r"`([^`\n]+)`", ALL)
    for line in code:
        for program, word in re.findall(r"(?:^|[ /])(jobimpactd?) ([a-z]\w*)", line):
            assert word in known[program], line


def test_every_make_target_is_there() -> None:
    """A `make` target that a document names exists."""
    targets = set(re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`", ALL))
    named |= {found[1] for text in blocks(ALL) for one in text if (found := re.match(r"make ([a-z]+)$", one))}
    assert {"demo", "test", "check"} <= named <= targets


def test_two_commands_set_up() -> None:
    """README's set-up is `make demo` and `make test`, and asks for nothing else to be installed."""
    section = page("README.md").split("\n## Try it\n")[1].split("\n## ")[0]
    assert blocks(section)[0] == ["make demo", "make test"]
    assert not re.search(r"\b(pip install|apt-get|apt install|sudo|venv )", section)
    assert len(page("README.md").splitlines()) <= 120


def test_links_between_documents_resolve() -> None:
    """Each relative link leads to a file or folder of the repository."""
    for found in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", found.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (found.parent / link).exists(), f"{found}: {link}"


def test_reference_is_the_schema() -> None:
    """The configuration's page is what the schema makes: `python docs/reference.py` writes it."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page()


def test_sample_configuration_loads_and_names_every_key() -> None:
    """The sample is a valid configuration of all defaults but names and switches, and shows each key there is."""
    text = page("deploy/jobimpact.yaml")
    config = load_config(DEPLOY / "jobimpact.yaml")
    found = msgspec.structs.asdict(config)
    default = msgspec.structs.asdict(Config())
    assert {key for key, value in found.items() if value != default[key]} == {"cluster", "store"}
    assert (config.store, config.store.folder) == (Store(local=LocalStore()), Config().store.folder)
    keys = {part for path, _, _ in reference.keys(msgspec.inspect.type_info(Config)) for part in path.split(".")}
    for key in keys - {"<lab>"}:
        assert re.search(rf"(^ *(# *)?|[{{ ]){key}:", text, re.MULTILINE), key


def test_every_key_that_is_commented_out_may_be_switched_on(tmp_path: Path) -> None:
    """With all comments of keys taken away the sample is still right, but for two schedulers at once."""
    text = re.sub(
        r"^( *)# (name|cpus|mem_bytes|gpus|tdp_w|idle_w):", r"\1\2:", page("deploy/jobimpact.yaml"), flags=re.MULTILINE
    )
    meters = re.compile(r"^    # (ipmi|redfish|wattmeter):\n(    #   .*\n)+", re.MULTILINE)
    text = meters.sub(lambda found: re.sub("^    # ", "    ", found[0], flags=re.MULTILINE), text)
    file = tmp_path / "jobimpact.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(file)
    assert config.node.cpus == 64
    assert None not in msgspec.structs.astuple(config.node.sources)
    for other in ("local", "oar"):
        both = re.sub(
            rf"^  # {other}:\n(  #   .*\n)+",
            lambda found: re.sub("^  # ", "  ", found[0], flags=re.MULTILINE),
            text,
            flags=re.MULTILINE,
        )
        file.write_text(both, encoding="utf-8")
        with pytest.raises(ConfigError, match="exactly one of slurm, oar, local"):
            load_config(file)


def test_sample_inventory_loads_without_a_warning() -> None:
    """The sample inventory is valid, and its parts are in the factors."""
    inventory = load_inventory(DEPLOY / "nodes.yaml")
    factors = load_factors()
    assert inventory.type_of("gpu04") is inventory.types["a100"]
    assert [warning for one in inventory.types.values() for warning in parts_of(one, factors).warnings] == []


def test_units_run_commands_that_are_there() -> None:
    """Each service of systemd starts a command of ours with the configuration that the documents name."""
    for unit in (DEPLOY / "systemd").glob("*.service"):
        start = r"^ExecStart=/opt/jobimpact/bin/(jobimpactd?) (\w+) --config (\S+)$"
        found = re.search(start, unit.read_text(encoding="utf-8"), re.MULTILINE)
        assert found, unit
        assert found[2] in (command._COMMANDS if found[1] == "jobimpact" else _daemon_commands())
        assert found[3] == "/etc/jobimpact/jobimpact.yaml"


def test_systemd_listens_where_users_ask() -> None:
    """The socket's unit is for the path that clients take without a word in the configuration."""
    listens = re.findall(r"^ListenStream=(.*)$", page("deploy/systemd/jobimpact-serve.socket"), re.MULTILINE)
    assert listens == [Config().service.socket]


def test_mark_folder_is_the_one_of_daemon_and_hooks() -> None:
    """tmpfiles.d makes the folder in which the daemon looks and the hooks write."""
    folder = Config().node.marks
    assert f"d {folder} 0700 root root -\n" in page("deploy/tmpfiles.d/jobimpact.conf")
    assert f"${{JOBIMPACT_MARKS:-{folder}}}" in page("prolog_epilog/slurm/prolog")


def test_every_key_of_a_recording_is_documented() -> None:
    """The recordings' page has each key that the reader knows."""
    text = page("docs/admin/recordings.md")
    for part in ("_RawLine", "_RawReading", "_RawUsage", "_RawJob", "_RawMark", "_RawNode"):
        for field in msgspec.structs.fields(getattr(recording, part)):
            assert f"`{field.encode_name}`" in text, f"{part}.{field.encode_name}"


def test_example_recording_gives_the_output_that_is_shown(tmp_path: Path) -> None:
    """The recordings' page shows what replay makes of its example."""
    text = page("docs/admin/recordings.md")
    shown = next(lines for lines in blocks(text) if lines[0].startswith('{"t"'))
    file = tmp_path / "recording"
    file.write_text("\n".join(shown) + "\n", encoding="utf-8")
    found = replay(Config(), file)
    output = "\n".join(next(lines for lines in blocks(text) if lines[0].startswith('{"schema"')))
    told = json.loads(output.replace(", ...]", "]"))
    assert {key: told[key] for key in ("schema", "domains", "jobs")} == {
        key: found[key] for key in ("schema", "domains", "jobs")
    }
    assert told["findings"][0] == found["findings"][0]


def test_every_key_of_an_answer_is_documented() -> None:
    """The answer's page has each key of the JSON document."""
    text = page("docs/user/answer.md")
    empty = JobResult(
        **dict.fromkeys(("cluster", "key", "raw_id", "job_id", "user", "name", "state"), "x"),
        **dict.fromkeys(("account", "partition", "exit_code", "submit_s", "start_s", "end_s", "elapsed_s")),
        **dict.fromkeys(("cpus", "mem_bytes", "gpus", "energy_j")),
        **dict.fromkeys(("nodes", "warnings"), ()),
        **{key: {} for key in ("impacts", "factors", "inventory", "raw")},
        energy={"domains": {}, "nodes": {}},
        coverage=0.0,
    )
    keys = set(job_document(empty))
    for part in (EnergySummary, KindEnergy, NodeEnergy, NodeDomain, FactorNotes, Indicator):
        keys |= {field.name for field in msgspec.structs.fields(part)}
    for key in keys - {"start_s", "end_s"}:
        assert f"`{key}`" in text, key


def test_decisions_are_listed_and_numbered_once() -> None:
    """Each decision has a number of its own, a line in the list and the same parts."""
    decisions = sorted((ROOT / "docs/adr").glob("0*.md"))
    assert [int(one.name[:4]) for one in decisions] == list(range(1, len(decisions) + 1))
    for one in decisions:
        assert f"({one.name})" in page("docs/adr/README.md")
        headings = re.findall(r"^## (.*)$", one.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Goals", "Non-goals"]
