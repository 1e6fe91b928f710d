"""The configuration: defaults, relative paths, and errors that name file, key and what is allowed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.config import Config, config_path, load_config
from jobimpact.core.errors import ConfigError


def load(folder: Path, text: str) -> Config:
    """A configuration of this text."""
    path = folder / "jobimpact.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """Everything has a default; without a section of sources all are on."""
    config = load(tmp_path, "")
    assert config.node.interval_s == 1.0
    assert config.node.sources.rapl is not None
    assert config.node.sources.nvml is not None
    assert config.scheduler.slurm is not None


def test_the_example_of_the_design_is_read(tmp_path: Path) -> None:
    """The sample that the design shows, as far as this release goes."""
    config = load(
        tmp_path,
        """
cluster: labia
store: {local: {path: /var/lib/jobimpact}}
results: sqlite:////var/lib/jobimpact/results.db
scheduler: {slurm: {via: sacct}}
inventory: /etc/jobimpact/nodes.yaml
node: {interval_s: 1, marks: /run/jobimpact/marks, policy: default,
       sources: {rapl: {root: /sys/class/powercap, idle_w: {package-0: 45}}, nvml: {}}}
grid: {zone: FRA, provider: annual}
mail: {enabled: false}
""",
    )
    assert config.cluster == "labia"
    assert config.node.sources.rapl is not None
    assert config.node.sources.rapl.idle_w == {"package-0": 45.0}
    assert config.node.sources.model is None


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    """A demo's folder can be moved as a whole."""
    text = "store: {local: {path: store}}\nresults: sqlite:///r.db\nscheduler: {local: {path: jobs}}\nnode: {marks: m}"
    config = load(tmp_path, text)
    assert config.store.folder == tmp_path / "store"
    assert config.results == f"sqlite:///{tmp_path}/r.db"
    assert config.scheduler.local is not None
    assert config.scheduler.local.path == str(tmp_path / "jobs")
    assert config.node.marks == str(tmp_path / "m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: {}", "nodes: unknown key; allowed: access, cluster"),
        ("node: {intervall_s: 2}", "node.intervall_s: unknown key; allowed:"),
        ("node: {interval_s: 0}", "node.interval_s: "),
        ("node: {interval_s: 31}", "node.interval_s: "),
        ("node: {name: a/b}", "node.name: "),
        ('node: {name: "n1\\n"}', "node.name: "),
        ("node: {cpus: 9999999999999999999999}", "node.cpus: "),
        ("node: {sources: {rapl: {idle_w: {package-0: .inf}}}}", "node.sources.rapl.idle_w"),
        ("node: {sources: {nvml: {deadline_s: .nan}}}", "node.sources.nvml.deadline_s"),
        ("node: {policy: mine}", "node.policy: .*allowed: cpu_time, default, exclusive"),
        ("node: {sources: {rapl: }}", "node.sources.rapl: empty"),
        ("node: {sources: {rapl: {idle_w: {package-0: -1}}}}", "node.sources.rapl.idle_w"),
        ("scheduler: {}", "scheduler: exactly one of"),
        ("scheduler: {slurm: {}, local: {path: x}}", "scheduler: exactly one of"),
        ("results: postgres://x", "results: "),
        ("results: 'sqlite:///'", "results: .*path"),
        ("results: 'sqlite:///r.db?mode=ro'", "results: .*nothing else"),
        ("scheduler: {slurm: {clusters: [lab, Lab]}}", "scheduler.slurm.clusters: .*twice"),
        ("mail: {enabled: true}", "mail.sender: an address"),
        ("mail: {enabled: true, sender: a@b.fr}", "mail.addresses: one of"),
        ("mail: {sender: nobody}", "mail.sender"),
        ("mail: {smtp: {username: u}}", "username and password_file go together"),
        ("mail: {smtp: {username: u, password_file: p, tls: none}}", "in the open"),
        ("service: {listen: here}", "service.listen"),
        ("labs: {a: {head: [b]}}", "labs.a.head: unknown key"),
        ("cluster: a\ncluster: b", "'cluster' twice"),
        ("a: [", "while parsing"),
        ("[]: 1", "key"),
        ("- 1", "Expected `object`"),
        ("cluster: !!python/object/apply:os.system [x]", "constructor"),
    ],
)
def test_a_wrong_file_names_itself_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    """One line: the file, the key, and what is allowed."""
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "jobimpact.yaml"))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    """Missing, a folder, or not text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path)


def test_the_path_is_given_or_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument comes first, then JOBIMPACT_CONFIG, then the system's file."""
    monkeypatch.setenv("JOBIMPACT_CONFIG", "/b")
    assert config_path("/a") == Path("/a")
    assert config_path(None) == Path("/b")
    monkeypatch.delenv("JOBIMPACT_CONFIG")
    assert config_path(None) == Path("/etc/jobimpact/jobimpact.yaml")


keys = st.sampled_from(
    ["cluster", "store", "local", "path", "node", "sources", "rapl", "nvml", "scheduler", "slurm", "via", "name",
     "mail",
     "interval_s", "idle_w", "package-0", "grid", "zone", "gpus", "cpus", "results", "nightly", "at", "marks"]
)  # fmt: skip
things = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 10**30) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(keys, things) | things)
def test_no_yaml_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, thing: object) -> None:
    """Whatever the file holds, there is a configuration or a ConfigError of one line."""
    with suppress(ConfigError):
        load(tmp_path_factory.getbasetemp(), yaml.safe_dump(thing, allow_unicode=True))


@given(st.text(max_size=40))
def test_no_text_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever the bytes are, there is a configuration or a ConfigError."""
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        load_config(path)
