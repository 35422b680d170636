"""Contenders in processes of their own, in turns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.measure.workload import Workload, WorkloadOptions
from modernrank.benchmarks.peers import peer_process
from modernrank.benchmarks.peers.contenders import (
    Contender,
    PeerSetup,
    our_contenders,
    peer_contender,
    peer_names,
)
from modernrank.benchmarks.peers.environments import ENVIRONMENTS, PeerError
from modernrank.benchmarks.peers.peer_process import GPU_PEERS, PEERS, Settings
from modernrank.benchmarks.peers.turns import Turns, take_turns
from modernrank.benchmarks.reporting.result import Measurement
from modernrank.benchmarks.run import PeersOptions, run_versions
from support.layout import ROOT

WORKLOAD = Workload("two", [[("a b", "c d e"), ("a b", "f")], [("g", "h i")]])
RAISES = "import sys; print('loading', file=sys.stderr); raise RuntimeError('no such architecture')"
IS_KILLED = "import os; os.kill(os.getpid(), 9)"
# Answers as the harness expects, and fails at its third request.
FAILS_LATER = """
import json, sys
print(json.dumps({"versions": {"fake": "1"}, "info": {}}), flush=True)
for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    if number == 2:
        raise RuntimeError("out of luck")
    scores = [0.5] * len(request["pairs"])
    print(json.dumps({"seconds": 0.1 / request["batch"], "scores": scores, "peak_memory": 9}), flush=True)
"""
# Answers with the number of its request as the seconds that it took.
ANSWERS = """
import json, sys
print(json.dumps({"versions": {}, "info": {}}), flush=True)
for number, line in enumerate(sys.stdin):
    scores = [0.5] * len(json.loads(line)["pairs"])
    print(json.dumps({"seconds": float(number), "scores": scores, "peak_memory": 9}), flush=True)
"""


def script(name: str, code: str, batches: tuple[int, ...] = (1,)) -> Contender:
    return Contender(name, lambda: [sys.executable, "-c", code], batches, "fp32", "cpu")


@pytest.fixture(scope="module")
def measured(artifacts: Path) -> dict[str, Measurement]:
    """What two rounds gave, by contender: two precisions of ours, and three that fail in their own way."""
    ours = [
        contender
        for name in ("tiny", "tiny-int8")
        for contender in our_contenders(Artifact.open(artifacts / name), {"threads": 1, "provider": "auto"})
    ]
    others = [script("broken", RAISES), script("killed", IS_KILLED), script("later", FAILS_LATER, (1,))]
    notes: list[str] = []
    measurements = take_turns(ours + others, WORKLOAD, lambda pair: 10, rounds=2, report=notes.append)
    assert any("broken" in note for note in notes)
    return {m.contender: m for m in measurements}


def test_all_contenders_stay_in_the_result(measured: dict[str, Measurement]) -> None:
    assert list(measured) == ["modernrank fp32", "modernrank int8", "later", "broken", "killed"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_our_process_reports_what_runs(measured: dict[str, Measurement], precision: str) -> None:
    m = measured[f"modernrank {precision}"]
    assert (m.ours, m.precision, m.provider) == (True, precision, "cpu")
    assert m.runtime["precision"] == precision
    assert m.flops_per_token
    assert len(m.seconds) == 2
    assert (m.pairs, m.tokens, m.parameters) == (6, 60, {"documents": 3})
    assert m.peak_memory


def test_a_process_that_cannot_start_leaves_its_last_line(measured: dict[str, Measurement]) -> None:
    assert measured["broken"].error == "RuntimeError: no such architecture"
    assert measured["broken"].precision == "fp32"


def test_a_killed_process_is_named(measured: dict[str, Measurement]) -> None:
    assert "signal 9" in str(measured["killed"].error)


def test_a_process_that_fails_later_keeps_its_samples(measured: dict[str, Measurement]) -> None:
    m = measured["later"]
    assert m.error == "RuntimeError: out of luck"
    assert m.seconds == [0.1]
    assert (m.ours, m.provider, m.runtime["versions"]) == (False, "cpu", {"fake": "1"})
    assert m.flops_per_token is None


def test_processes_stay_up_for_several_workloads() -> None:
    """One that ended in an earlier workload is not started again, and stays in the result with its error."""
    first, second = (Workload(name, WORKLOAD.queries) for name in ("first", "second"))
    contenders = [script("broken", RAISES), script("later", FAILS_LATER), script("steady", ANSWERS)]
    with Turns(contenders, lambda pair: 10, print) as turns:
        measured = [*turns.measure(first, rounds=2), *turns.measure(second, rounds=5, seconds=0)]
    errors = {(m.contender, m.workload): m.error for m in measured}
    assert {name for (name, workload), error in errors.items() if error and workload == "first"} == {"broken", "later"}
    assert {name for (name, workload), error in errors.items() if error and workload == "second"} == {"broken", "later"}
    assert len(measured) == 6
    assert [m.seconds for m in measured if m.contender == "steady"] == [[1.0, 2.0], [4.0]]  # it counts its requests


def test_every_peer_has_an_environment() -> None:
    assert {peer.environment for peer in [*PEERS.values(), *GPU_PEERS.values()]} == ENVIRONMENTS.keys()
    assert peer_names("cpu") == list(PEERS)
    assert peer_names("cuda") == list(GPU_PEERS)


def test_an_unknown_peer_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="'mine'") as error:
        peer_contender("mine", PeerSetup(tmp_path, threads=1), print)
    assert "transformers fp32" in error.value.details["choices"]


def test_the_command_line_of_a_peer_holds_all_its_settings(tmp_path: Path) -> None:
    """Its process cannot import modernrank, so it cannot find the calibration pairs by itself."""
    setup = PeerSetup(tmp_path / "checkpoint", threads=3, folder=tmp_path, this_environment=True)
    contender = peer_contender("torch.onnx, OpenVINO int8", setup, print)
    python, program, argument = contender.command()
    fields = json.loads(argument)
    assert python == sys.executable
    assert Path(program).is_file()
    assert fields.pop("peer") == contender.name
    settings = Settings.from_json(fields)
    assert settings == setup.settings()
    assert settings.calibration.is_file()
    assert (contender.precision, contender.ours) == ("int8", False)


@pytest.mark.parametrize("cuda_graphs", [None, True, False])
def test_cuda_graphs_give_contenders_names_of_their_own(artifacts: Path, cuda_graphs: bool | None) -> None:
    options = {} if cuda_graphs is None else {"cuda_graphs": cuda_graphs}
    (contender,) = our_contenders(Artifact.open(artifacts / "tiny"), options)
    assert contender.precision == "fp32"
    assert ("cuda-graphs" in contender.name) == (cuda_graphs is not None)


def test_the_peak_memory_is_that_of_the_process_itself() -> None:
    """A process that a larger one started must not report the larger one's."""
    held = bytearray(b"x") * (256 << 20)
    code = "from peer_process import peak_memory; print(peak_memory())"
    folder = Path(peer_process.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert peer_process.peak_memory() > len(held)
    assert 0 < int(done.stdout) < len(held)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="requires a checkout")
def test_an_earlier_commit_takes_turns_with_this_version(artifacts: Path, tmp_path: Path) -> None:
    options = PeersOptions(WorkloadOptions(lengths=(24,)), rounds=2)
    result = run_versions(artifacts / "tiny", ["HEAD"], options, folder=tmp_path, threads=1)
    now, before = result.measurements
    assert now.contender == "modernrank fp32, this version"
    assert before.contender.startswith("modernrank fp32, ") and before.contender != now.contender
    assert [len(m.seconds) for m in (now, before)] == [2, 2]
    assert (now.error, before.error) == (None, None)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="requires a checkout")
def test_an_unknown_commit_is_named(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such-commit"):
        run_versions(artifacts / "tiny", ["no-such-commit"], folder=tmp_path)
