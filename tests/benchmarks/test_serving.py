"""``modernrank bench serve``: the loads, what is recorded, and which servers may be loaded."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.benchmarks.measure.concurrent import Arrivals
from modernrank.benchmarks.measure.http_client import Address, request
from modernrank.benchmarks.measure.serving import Samples, Server, ServingOptions, Target, open_loop
from modernrank.benchmarks.reporting.result import Result
from modernrank.benchmarks.serve import named_server
from modernrank.cli import main
from support.serving import serving


def test_our_server_and_another_are_measured_beside_the_model(artifacts: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    with serving(artifacts / "tiny-standard") as other:
        options = ["--length", "24", "--documents", "3", "--queries", "2", "--seconds", "0.1", "--rounds", "1"]
        another = ["--server", f"other=http://127.0.0.1:{other.port}"]
        command = ["bench", "serve", str(artifacts / "tiny"), *options, *another, "--clients", "2", "--out", str(out)]
        assert main(command) == 0
    measured = {(m.contender, m.parameters["load"]): m for m in Result.read(out).measurements}
    half = "open, 0.5 of its throughput"
    ours, others = "modernrank serve fp32", "other"
    assert set(measured) == {
        ("modernrank fp32", "alone"),
        ("modernrank fp32", "lists"),
        *((name, load) for name in (ours, others) for load in ("alone", "2 clients", half)),
    }
    for measurement in measured.values():
        assert measurement.pairs > 0
        assert measurement.tokens == 24 * measurement.pairs
        assert measurement.elapsed > 0.05
    assert measured[ours, "alone"].fidelity["largest_difference"] == 0
    assert measured[others, "alone"].fidelity["largest_difference"] < 1e-5
    assert measured[ours, half].details["rate"] < measured[ours, "2 clients"].details["rate"]


def test_latency_in_an_open_loop_counts_from_the_arrival(artifacts: Path) -> None:
    """A server that stands still for a moment: requests that arrived meanwhile waited, and their latency says so."""
    with serving(artifacts / "tiny") as server:
        address = Address.of(f"http://127.0.0.1:{server.port}")
        item = Target(Server("other", address), [request(address, [("a", "b")])])
        samples = Samples()

        async def loaded() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(0.2, server.signal, signal.SIGSTOP)
            loop.call_later(0.7, server.signal, signal.SIGCONT)
            await open_loop(item, Arrivals((100.0,)), 1.0, samples)

        asyncio.run(loaded())
    assert len(samples.seconds) == 100
    waited = [seconds for seconds in samples.seconds if seconds > 0.1]
    assert len(waited) > 25  # of the fifty that arrived in that half second
    assert max(samples.seconds) > 0.4


@pytest.mark.parametrize("url", ["http://example.org/rerank", "https://127.0.0.1", "127.0.0.1:8080", "http://10.0.0.1"])
def test_load_goes_to_this_machine_only(url: str) -> None:
    with pytest.raises(InputError):
        Address.of(url)


@pytest.mark.parametrize("text", ["http://127.0.0.1", "=http://127.0.0.1", "name", "name=nothing"])
def test_other_servers_have_names(text: str) -> None:
    with pytest.raises(InputError):
        named_server(text)


@pytest.mark.parametrize("options", [{"clients": 0}, {"rounds": 0}, {"loads": (0.0,)}, {"loads": (1.5,)}])
def test_loads_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ServingOptions(**options)  # type: ignore[arg-type]
