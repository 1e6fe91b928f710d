"""HTTP: deadlines, certificates, redirects, proxies, and a token that is seen by the provider alone."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from tests.accounting.grid.world import DAY, MIDNIGHT, Site
from tests.fakes.bmc_redfish import certificate
from tests.fakes.grid_servers import DOMAIN, TOKEN, serving

from jobimpact.core.config import ElectricityMaps, Entsoe, Rte


@pytest.mark.parametrize("fault", ["hang", "drip", "slow headers"])
def test_a_deadline_is_over_the_whole_answer(site: Site, fault: str) -> None:
    """However slowly it comes; and once the provider is silent no more is asked."""
    site.deadline_s = 0.3
    site.server.fault = fault
    began = time.monotonic()
    with site.grid("electricitymaps") as grid:
        (problem,) = grid.fill(MIDNIGHT - 50 * DAY, MIDNIGHT)
    assert time.monotonic() - began < 15
    assert problem.endswith("no answer within deadline_s: 1200 hours concerned")
    assert len(site.server.asked) == 1


def test_a_server_that_takes_the_connection_and_says_nothing(site: Site) -> None:
    """The deadline holds there as well, in plain and in TLS."""
    site.deadline_s = 0.3
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "https"):
            with site.grid("rte", rte=Rte(url=f"{scheme}://127.0.0.1:{port}")) as grid:
                began = time.monotonic()
                assert "no answer within deadline_s" in grid.fill(MIDNIGHT - DAY, MIDNIGHT)[0]
                assert time.monotonic() - began < 15


def test_nobody_there(site: Site) -> None:
    """A closed port, a name that is none, and a server that hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with site.grid("rte", rte=Rte(url=f"http://127.0.0.1:{port}")) as grid:
        assert "Connection refused" in grid.fill(MIDNIGHT - DAY, MIDNIGHT)[0]
    with site.grid("rte", rte=Rte(url="http://nobody.invalid")) as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT)[0].startswith("rte: http://nobody.invalid/api/explore")
    with socket.create_server(("127.0.0.1", 0)) as rude:
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        with site.grid("rte", rte=Rte(url=f"http://127.0.0.1:{rude.getsockname()[1]}")) as grid:
            assert "24 hours concerned" in grid.fill(MIDNIGHT - DAY, MIDNIGHT)[0]


def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(site: Site) -> None:
    """The other host is named, and is not asked."""
    with serving() as other:
        site.server.fault, site.server.elsewhere = "redirect", other.url
        for provider in ("electricitymaps", "entsoe"):
            with site.grid(provider) as grid:
                (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
            assert "HTTP 302, leads to 127.0.0.1: if it is right, set url to it" in problem
            assert TOKEN not in problem
        assert other.asked == []


def test_a_body_that_ends_too_early_is_told(site: Site) -> None:
    """Less than its length says."""
    site.server.fault = "cut off"
    for provider in ("rte", "electricitymaps", "entsoe"):
        with site.grid(provider) as grid:
            assert "the answer is cut short: 24 hours" in grid.fill(MIDNIGHT - DAY, MIDNIGHT)[0]


def test_the_token_is_sent_and_is_not_kept(site: Site) -> None:
    """It is in the questions, and nowhere in the cache."""
    for provider in ("electricitymaps", "entsoe"):
        with site.grid(provider) as grid:
            assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
    assert {(headers.get("auth-token"), asked.get("securityToken")) for _, asked, headers in site.server.asked} == {
        (TOKEN, None),
        (None, TOKEN),
    }
    assert TOKEN.encode() not in site.cache.read_bytes()


def test_a_token_that_the_provider_repeats_is_not_shown(site: Site) -> None:
    """Neither in an acknowledgement nor in a value."""
    site.server.raw = (
        f"<Acknowledgement_MarketDocument><Reason><code>999</code><text>token {TOKEN} is\u202e not\nknown</text>"
        "</Reason></Acknowledgement_MarketDocument>"
    ).encode()
    with site.grid("entsoe") as grid:
        (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
    assert problem.endswith("it refuses: token [token] is not known: 24 hours concerned")
    site.server.raw = f'{{"zone": "{TOKEN}", "data": [{{"zone": "{TOKEN}"}}]}}'.encode()
    with site.grid("electricitymaps") as grid:
        (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
    assert "the answer's is '[token]'" in problem


def test_certificates_are_checked_before_the_token_is_sent(site: Site, tmp_path: Path) -> None:
    """An authority that is not known is none; with ca_file it is."""
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl program")
    authority, cert, key = made
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    with serving(str(both)) as server:
        url, token = f"{server.url}/em/v3", str(site.token_file)
        stranger = ElectricityMaps(token_file=token, zone="FR", url=url)
        with site.grid("electricitymaps", electricitymaps=stranger) as grid:
            (problem,) = grid.fill(MIDNIGHT - DAY, MIDNIGHT)
        assert "its certificate is not trusted (" in problem
        assert problem.endswith("): see ca_file: 24 hours concerned")
        assert server.asked == []
        known = ElectricityMaps(token_file=token, zone="FR", url=url, ca_file=str(authority))
        with site.grid("electricitymaps", electricitymaps=known) as grid:
            assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
            assert len(grid.hours(MIDNIGHT - DAY, MIDNIGHT)) == 24


def test_a_proxy_of_the_environment_is_obeyed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accounting host often reaches the world by one."""
    monkeypatch.setenv("http_proxy", site.server.url)
    monkeypatch.setenv("no_proxy", "")
    entsoe = Entsoe(token_file=str(site.token_file), domain=DOMAIN, url="http://far.invalid/entsoe/api")
    with site.grid("entsoe", entsoe=entsoe) as grid:
        assert grid.fill(MIDNIGHT - DAY, MIDNIGHT) == []
