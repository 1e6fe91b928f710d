"""Several clusters: each has its own mails, which say whose they are."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
import yaml
from tests.accounting.test_clusters import world as two_clusters
from tests.accounting.world import T0, World

from jobimpact.cli.main import main

world = two_clusters
"""A fixture: two clusters with a job of one id."""
DAY = "2026-11-20"


def test_each_cluster_has_its_mails_in_the_folder(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of one do not take the other's place, though their jobs' ids are alike; a second run replaces them."""
    mail = {"sender": "jobimpact@site.example", "addresses": {"domain": "site.example"}, "min_kwh": 0.001}
    text = world.config_file.read_text()
    world.config_file.write_text(text + yaml.safe_dump({"mail": mail | {"digest": "off"}}))
    words = ["--config", str(world.config_file)]
    assert main(["account", *words, "--from", str(T0 - 60), "--to", str(T0 + 200)]) == 0
    folder = world.folder / "look"
    for _ in range(2):
        assert main(["mail", *words, "--night", DAY, "--preview", str(folder)]) == 0
        assert capsys.readouterr().out.count("1 mail, 1 file in") == 2
    found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in sorted(folder.iterdir())]
    assert [str(one["Subject"]).partition(" (")[0] for one in found] == ["far: Job 7", "near: Job 7"]
    for cluster, one in zip(("far", "near"), found, strict=True):
        body = one.get_body(("plain",))
        assert body is not None
        assert f"You get this because job 7 on {cluster} used" in " ".join(body.get_content().split())
    assert len({one["Message-ID"] for one in found}) == 2
