"""What graphs and plans cost, counted: a change that makes the model more expensive shows here despite noise.

``PYTHONPATH=tests python tests/benchmarks/test_op_counts.py`` writes the counts of the present code to
``tests/data/counts.json``. A change to that file is a change of cost; its commit gives the reason.
"""

import dataclasses
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import onnx
import pytest

from modernrank.batching.packing import plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy, TokenBudget
from modernrank.benchmarks.measure.workload import MIX
from modernrank.benchmarks.op_counts import count_graph, count_plan
from modernrank.export import export_checkpoint
from support.checkpoints import DATA, checkpoint

EXPECTED = DATA / "counts.json"
GRAPHS = {"ort-cpu fp32": "tiny", "standard fp32": "tiny-standard", "ort-cpu int8": "tiny-int8"}
# Rows of one pair, as on CPUs, and rows that pairs share, as on GPUs.
POLICIES = {
    "unpadded": BatchPolicy(
        PackingPolicy(TokenBudget(256), pairs_per_row=1, minimum_fill=1.0), SchedulePolicy(workers=2)
    ),
    "packed": BatchPolicy(PackingPolicy(TokenBudget(4096))),
}


def graph_file(folder: Path) -> Path:
    (file,) = folder.glob("*.onnx")
    return file


def mixed_lengths() -> list[int]:
    chance = random.Random(0)
    return [chance.randint(MIX[i % 20], MIX[i % 20 + 1]) for i in range(200)]


def counts(artifacts: Path) -> dict[str, Any]:
    graphs = {name: count_graph(graph_file(artifacts / folder)) for name, folder in GRAPHS.items()}
    plans = {name: plan(mixed_lengths(), policy) for name, policy in POLICIES.items()}
    return {
        "graphs": {name: dataclasses.asdict(counted) for name, counted in graphs.items()},
        "plans": {
            f"{name}, {graph}": dataclasses.asdict(count_plan(planned, counted))
            for name, planned in plans.items()
            for graph, counted in graphs.items()
        },
    }


def test_no_graph_and_no_plan_costs_more_than_it_did(artifacts: Path) -> None:
    assert counts(artifacts) == json.loads(EXPECTED.read_text())


def test_counts_of_a_graph_with_branches(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        node = onnx.helper.make_node("MatMul", ["x", "w"], [name])
        return onnx.helper.make_graph([node], name, [], [onnx.helper.make_empty_tensor_value_info(name)])

    choose = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3, 5], [0.0] * 15)
    graph = onnx.helper.make_graph([choose], "g", [], [], [weight])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "g.onnx")
    counted = count_graph(tmp_path / "g.onnx")
    assert counted.nodes == {"If": 1, "MatMul": 2}
    assert counted.weight_bytes == 2 * 15 * 4
    assert counted.linear_flops == 2 * 2 * 15


@pytest.mark.parametrize(("name", "max_waste"), [("unpadded", 0.0), ("packed", 0.1)])
def test_the_mix_wastes_little(name: str, max_waste: float) -> None:
    assert plan(mixed_lengths(), POLICIES[name]).waste <= max_waste


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for precision, folder in (("fp32", "tiny"), ("int8", "tiny-int8")):
            export_checkpoint(checkpoint("tiny"), Path(scratch) / folder, precision=precision)
        export_checkpoint(checkpoint("tiny"), Path(scratch) / "tiny-standard", graph="standard")
        EXPECTED.write_text(json.dumps(counts(Path(scratch)), indent=1) + "\n")
