"""Modular rerankers of sentence-transformers: their scores, their prompts, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modernrank import ArtifactError, Reranker, TextLimits
from modernrank.artifact.manifest import Manifest
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.weights import Checkpoint
from modernrank.export.graph.options import GraphOptions
from modernrank.export.models.registry import read_architecture
from modernrank.export.precision.int8.channel_order import ChannelOrders, ReorderedWeights
from support.checkpoints import checkpoint, golden
from support.modular import (
    CHAINS,
    HALF_TYPES,
    TYPES,
    Chain,
    dense,
    edit_json,
    golden_of,
    norm,
    pooling,
    scores,
    write_json,
    write_modular,
)

PAIRS = [tuple(pair) for pair in golden("tiny")["pairs"]]
FEW = [PAIRS[1], PAIRS[3], PAIRS[-2]]


def exported(folder: Path, chain: Chain, **options: Any) -> Path:
    """The artifact of a chain."""
    export_checkpoint(write_modular(folder / "checkpoint", chain, **options), folder / "artifact")
    return folder / "artifact"


def scores_of(artifact: Path, pairs: list[Any] = PAIRS, **options: Any) -> np.ndarray[Any, Any]:
    with Reranker.load(artifact) as reranker:
        return reranker.score(pairs, **options)


@pytest.mark.parametrize("graph", ["ort-cpu", "padded"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_gives_the_scores_of_sentence_transformers(tmp_path: Path, name: str, graph: str) -> None:
    export_checkpoint(write_modular(tmp_path / "checkpoint", CHAINS[name]), tmp_path / "artifact", graph=graph)
    assert scores_of(tmp_path / "artifact").reshape(len(PAIRS), -1) == pytest.approx(golden_of(name), abs=1e-4)


def test_optimum_is_not_asked_for_a_head_that_it_would_make_up(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact", graph="reference")
    assert refused.value.details["path"] == folder


def test_it_is_exported_into_the_cache_too(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    with Reranker.from_checkpoint(folder, cache=tmp_path / "cache") as reranker:
        before = reranker.score(FEW)
    edit_json(folder / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh")
    with Reranker.from_checkpoint(folder, cache=tmp_path / "cache") as reranker:
        assert (reranker.score(FEW) != before).any()


def test_the_same_weights_score_the_same_as_a_classifier_and_as_modules(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", Chain([pooling("mean"), dense(32, 32), norm(32), scores(32)]))
    head = load_file(checkpoint("tiny") / "model.safetensors")
    edit_json(folder / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.GELU", bias=False)
    zero = np.zeros(32, np.float32)
    for path, tensors in {
        "2_Dense": {"linear.weight": head["head.dense.weight"]},
        "3_LayerNorm": {"norm.weight": head["head.norm.weight"], "norm.bias": zero},
        "4_Dense": {"linear.weight": head["classifier.weight"], "linear.bias": head["classifier.bias"]},
    }.items():
        save_file(tensors, folder / path / "model.safetensors", {"format": "pt"})
    export_checkpoint(folder, tmp_path / "artifact")
    assert scores_of(tmp_path / "artifact") == pytest.approx(np.ravel(golden("tiny")["logits"]), abs=1e-4)


@pytest.mark.parametrize("name", CHAINS)
def test_any_order_of_channels_gives_the_same_scores(tmp_path: Path, name: str) -> None:
    """Quantisation numbers the channels anew, and the head reads them."""
    artifact = exported(tmp_path, CHAINS[name])
    architecture = read_architecture(tmp_path / "checkpoint")
    orders = {"hidden": np.random.default_rng(0).permutation(32)}
    with Checkpoint(tmp_path / "checkpoint", architecture.expected_tensors()) as weights:
        reordered = ReorderedWeights(weights, ChannelOrders(architecture, orders))
        architecture.write_graph(reordered, artifact / "model.fp32.onnx", GraphOptions("ort-cpu"))
    with Reranker.load(artifact, verify_files=False) as reranker:
        found = reranker.score(PAIRS).reshape(len(PAIRS), -1)
    assert found == pytest.approx(golden_of(name), abs=1e-4)


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_weights_in_half_precision_are_those_values_in_float32(tmp_path: Path, dtype: str) -> None:
    half = scores_of(exported(tmp_path, CHAINS["ettin"], dtype=HALF_TYPES[dtype]))
    exact = golden_of("ettin").ravel()
    assert np.corrcoef(half, exact)[0, 1] > 0.999
    assert half != pytest.approx(exact, abs=1e-6)


def test_a_sharded_encoder_scores_the_same(tmp_path: Path) -> None:
    whole, sharded = (scores_of(exported(tmp_path / str(shards), CHAINS["ettin"], shards=shards)) for shards in (1, 3))
    assert (whole == sharded).all()


def test_int8_keeps_the_scores_of_a_modular_reranker(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    export_checkpoint(folder, tmp_path / "artifact", precision=["fp32", "int8"])
    with Reranker.load(tmp_path / "artifact", precision="int8") as reranker:
        assert np.corrcoef(reranker.score(PAIRS), golden_of("ettin").ravel())[0, 1] > 0.98


def test_the_activation_is_the_one_that_was_saved(tmp_path: Path) -> None:
    sigmoid, identity = (exported(tmp_path / name, CHAINS[name]) for name in ("mean, tanh", "ettin"))
    assert scores_of(sigmoid, FEW, activation="model") == pytest.approx(scores_of(sigmoid, FEW, activation="sigmoid"))
    assert (scores_of(identity, FEW, activation="model") == scores_of(identity, FEW)).all()


def test_the_manifest_says_what_it_is(tmp_path: Path) -> None:
    manifest = Manifest.read(exported(tmp_path, CHAINS["joined, three labels"]))
    assert manifest.model.pooling == "cls+max+mean"
    assert manifest.model.labels == ["no", "maybe", "yes"]
    assert manifest.model.activation == "logit"
    assert {"modules.json", "1_Pooling/config.json", "3_Dense/model.safetensors"} <= manifest.source.files.keys()


# Prompts


def with_prompts(folder: Path, prompts: dict[str, str | None], default: str | None) -> Path:
    edit_json(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    return folder


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A modular reranker with two prompts, of which "web" is the default one."""
    folder = write_modular(tmp_path_factory.mktemp("prompted") / "checkpoint", CHAINS["ettin"])
    with_prompts(folder, {"web": "search the web: ", "code": "find code: ", "none": None}, "web")
    export_checkpoint(folder, folder.parent / "artifact")
    return folder.parent / "artifact"


@pytest.fixture(scope="module")
def unprompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("unprompted"), CHAINS["ettin"])


def test_the_default_prompt_is_put_before_every_query(prompted: Path, unprompted: Path) -> None:
    expected = scores_of(unprompted, [(f"search the web: {query}", document) for query, document in FEW])
    assert (scores_of(prompted, FEW) == expected).all()
    assert (scores_of(prompted, FEW) != scores_of(unprompted, FEW)).any()


@pytest.mark.parametrize("prompt", ["find code: ", ""])
def test_a_call_chooses_another_prompt_or_none(prompted: Path, unprompted: Path, prompt: str) -> None:
    expected = scores_of(unprompted, [(f"{prompt}{query}", document) for query, document in FEW])
    assert (scores_of(prompted, FEW, limits=TextLimits(prompt=prompt)) == expected).all()


def test_a_ranking_has_the_prompt_too_also_in_parts(prompted: Path, unprompted: Path) -> None:
    query, document = PAIRS[-5]
    with Reranker.load(prompted) as ours, Reranker.load(unprompted) as plain:
        options: dict[str, Any] = {"max_length": 100, "long_documents": "chunk", "with_parts": True}
        found = ours.rank(query, [document, "short"], **options)
        expected = plain.rank(f"search the web: {query}", [document, "short"], **options)
    assert len(found[0].parts or ()) > 1 or len(found[1].parts or ()) > 1
    assert found == expected


def test_a_prompt_counts_as_part_of_the_query(prompted: Path, unprompted: Path) -> None:
    with Reranker.load(prompted) as ours, Reranker.load(unprompted) as plain:
        prompt = "search the web: "
        assert (ours.count_tokens(FEW) == plain.count_tokens([(prompt + q, d) for q, d in FEW])).all()


def test_a_document_that_equals_the_query_has_no_prompt(prompted: Path, unprompted: Path) -> None:
    assert scores_of(prompted, [("same", "same")]) == scores_of(unprompted, [("search the web: same", "same")])


def test_the_manifest_keeps_the_prompts(prompted: Path) -> None:
    tokenizer = Manifest.read(prompted).tokenizer
    assert tokenizer.prompts == {"web": "search the web: ", "code": "find code: ", "none": ""}
    assert (tokenizer.default_prompt, tokenizer.prompt) == ("web", "search the web: ")


def saved_classifier(folder: Path) -> Path:
    """A sequence classifier as sentence-transformers saves it."""
    shutil.copytree(checkpoint("tiny"), folder)
    write_json(
        folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": CHAINS["ettin"].types["Transformer"]}]
    )
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "sequence-classification"})
    write_json(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder", "prompts": {}})
    return folder


def test_a_sequence_classifier_has_its_prompt_too(tmp_path: Path) -> None:
    folder = with_prompts(saved_classifier(tmp_path / "checkpoint"), {"rerank": "query: "}, "rerank")
    export_checkpoint(folder, tmp_path / "artifact")
    export_checkpoint(checkpoint("tiny"), tmp_path / "plain")
    expected = scores_of(tmp_path / "plain", [(f"query: {query}", document) for query, document in FEW])
    assert (scores_of(tmp_path / "artifact", FEW) == expected).all()


def test_prompts_without_modules_json_do_not_apply(tmp_path: Path) -> None:
    """As in sentence-transformers, which does not read them then."""
    folder = with_prompts(saved_classifier(tmp_path / "checkpoint"), {"rerank": "query: "}, "rerank")
    (folder / "modules.json").unlink()
    export_checkpoint(folder, tmp_path / "artifact")
    assert Manifest.read(tmp_path / "artifact").tokenizer.prompts == {}


def test_the_saved_maximum_length_holds(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    edit_json(folder / "sentence_bert_config.json", max_seq_length=64)
    export_checkpoint(folder, tmp_path / "artifact")
    with Reranker.load(tmp_path / "artifact") as reranker:
        assert reranker.max_length == 64


# What is refused


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / file, **changes)


def modules(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Change the list of modules.json in place."""

    def apply(folder: Path) -> None:
        entries = json.loads((folder / "modules.json").read_text())
        change(entries)
        write_json(folder / "modules.json", entries)

    return apply


def swap_pooling_and_dense(entries: list[dict[str, Any]]) -> None:
    entries[1], entries[2] = entries[2], entries[1]


SETTINGS, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
# What is wrong, and the file and the field that the error names.
WRONG: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "modules in another order": (modules(swap_pooling_and_dense), "modules.json", "modules"),
    "no pooling": (modules(lambda entries: entries.pop(1)), "modules.json", "modules"),
    "no scores": (modules(lambda entries: entries.pop()), "modules.json", "modules"),
    "two heads": (edited("2_Dense/config.json", module_output_name="scores"), "modules.json", "modules"),
    "scores of tokens": (
        edited("2_Dense/config.json", module_input_name="token_embeddings", module_output_name="sentence_embedding"),
        "modules.json",
        "modules",
    ),
    "two transformers": (modules(lambda e: e.append({**e[0], "path": "5_T"})), "modules.json", "type"),
    "no transformer": (modules(lambda entries: entries.pop(0)), "modules.json", "type"),
    "no modules": (modules(lambda entries: entries.clear()), "modules.json", ""),
    "a module of the checkpoint's own": (modules(lambda e: e[2].update(type="custom.Dense")), "modules.json", "type"),
    "an unknown module": (
        modules(lambda e: e[2].update(type="sentence_transformers.sentence_transformer.modules.lstm.LSTM")),
        "2_Dense",
        "type",
    ),
    "a path out of the folder": (modules(lambda e: e[2].update(path="../other")), "modules.json", "path"),
    "an absolute path": (modules(lambda e: e[2].update(path="/etc")), "modules.json", "path"),
    "a path that is no text": (modules(lambda e: e[2].update(path=5)), "modules.json", "path"),
    "an unknown pooling": (edited("1_Pooling/config.json", pooling_mode="median"), "config.json", "pooling_mode"),
    "pooling of another width": (edited("1_Pooling/config.json", embedding_dimension=64), "modules.json", "modules"),
    "pooling without the prompt": (
        lambda folder: [
            edit_json(folder / "1_Pooling" / "config.json", include_prompt=False),
            edit_json(folder / PROMPTS, prompts={"a": "b"}),
        ][0],
        "config.json",
        "include_prompt",
    ),
    "an unknown activation": (
        edited("2_Dense/config.json", activation_function="my.Gelu"),
        "config.json",
        "activation_function",
    ),
    "a dense layer of another width": (edited("4_Dense/config.json", in_features=31), "modules.json", "modules"),
    "a field of the wrong type": (edited("2_Dense/config.json", bias="yes"), "config.json", "bias"),
    "several outputs without names": (edited("4_Dense/config.json", out_features=3), "config.json", "id2label"),
    "another task": (edited(SETTINGS, transformer_task="text-generation"), SETTINGS, "transformer_task"),
    "another layer's output": (
        edited(SETTINGS, modality_config={"text": {"method": "forward", "method_output_name": "hidden_states"}}),
        SETTINGS,
        "modality_config",
    ),
    "lower-casing": (edited(SETTINGS, do_lower_case=True), SETTINGS, "do_lower_case"),
    "a changed config": (edited(SETTINGS, config_kwargs={"num_hidden_layers": 2}), SETTINGS, "config_kwargs"),
    "an embedding model": (edited(PROMPTS, model_type="SentenceTransformer"), PROMPTS, "model_type"),
    "a default prompt that does not exist": (
        edited(PROMPTS, default_prompt_name="web"),
        PROMPTS,
        "default_prompt_name",
    ),
    "a prompt that is no text": (edited(PROMPTS, prompts={"web": 5}), PROMPTS, "prompts"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_exported_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    damage, file, field = WRONG[wrong]
    damage(folder)
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact")
    assert Path(str(refused.value.details["path"])).name == file
    assert refused.value.details.get("field", "") == field
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "2_Dense/model.safetensors"])
def test_a_folder_without_weights_is_refused(tmp_path: Path, file: str) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    (folder / file).unlink()
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact")
    assert refused.value.details["path"] == (folder / file).parent


def test_a_module_without_its_config_is_refused(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    (folder / "2_Dense" / "config.json").unlink()
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact")
    assert refused.value.details["path"] == folder / "2_Dense" / "config.json"


def test_the_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    shutil.copyfile(folder / "4_Dense" / "model.safetensors", folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact")
    assert "2_Dense.linear" in str(refused.value)


def test_a_second_head_after_a_classifier_is_refused(tmp_path: Path) -> None:
    folder = saved_classifier(tmp_path / "checkpoint")
    entries = json.loads((folder / "modules.json").read_text())
    entries.append({"idx": 1, "name": "1", "path": "1_Dense", "type": TYPES["Dense"]})
    write_json(folder / "modules.json", entries)
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(folder, tmp_path / "artifact")
    assert refused.value.details["value"] == ["Dense"]


def test_unknown_fields_of_modules_are_named_in_a_warning(tmp_path: Path) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    edit_json(folder / "2_Dense" / "config.json", temperature=2.0)
    with pytest.warns(UserWarning, match="temperature"):
        export_checkpoint(folder, tmp_path / "artifact")
