"""One peer in a process of its own: loads once, then scores what it is asked to and tells how long that took.

    python worker.py PEER CHECKPOINT CACHE THREADS [DEVICE]

Requests and answers are JSON lines on standard input and output: ``{"pairs": [[query, document], ..], "batch": 32}``
is answered by ``{"seconds": .., "scores": [..], "peak_memory": ..}``; the first line written says that it is ready,
with its versions. Runs in an environment without modernrank, and so imports nothing of it. ``CACHE`` keeps what a peer
exports, as that takes minutes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

Pairs = list[tuple[str, str]]
Scorer = Callable[[Pairs, int], list[float]]
PACKAGES = (
    *("torch", "transformers", "sentence-transformers", "onnxruntime", "onnx", "optimum", "optimum-onnx"),
    *("optimum-intel", "openvino", "nncf"),
)
OPSET = 18
CPU = "cpu"
CALIBRATION = Path(__file__).parents[2] / "export" / "precision" / "calibration.jsonl"


@dataclass(frozen=True)
class Settings:
    """What a peer runs: the checkpoint, where it may keep exports, its threads, and torch's name of the device."""

    checkpoint: Path
    cache: Path
    threads: int
    device: str = CPU

    def must_be_cpu(self) -> None:
        """For peers that know nothing else.

        Raises:
            ValueError: another device was asked for.
        """
        if self.device != CPU:
            raise ValueError(f"this peer runs on the processor only, not on {self.device}")


def transformers_torch(settings: Settings, dtype: str, attention: str = "sdpa", compiled: bool = False) -> Scorer:
    """The model as it comes, padded batches sorted by length; ``attention`` is transformers' name of a kind."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(
        settings.checkpoint, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    model = model.eval().to(settings.device)
    forward = torch.compile(model, dynamic=True) if compiled else model

    def run(batch: dict[str, Any]) -> Any:
        with torch.inference_mode():
            inputs = {name: tensor.to(settings.device) for name, tensor in batch.items()}
            return forward(**inputs).logits[:, 0].float().cpu().numpy()

    return sorted_batches(tokenizer, run, "pt")


def sentence_transformers(settings: Settings, dtype: str) -> Scorer:
    """``CrossEncoder.predict`` in torch."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(settings.threads)
    options = {"dtype": getattr(torch, dtype)}
    model = CrossEncoder(str(settings.checkpoint), device=settings.device, model_kwargs=options)
    return cross_encoder(model)


def sentence_transformers_onnx(settings: Settings, dtype: str) -> Scorer:
    """``CrossEncoder(backend="onnx")``, exported by optimum; int8 is its own ``avx512_vnni`` recipe."""
    import onnxruntime
    import torch
    from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

    settings.must_be_cpu()
    torch.set_num_threads(settings.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    how = {"provider": "CPUExecutionProvider", "session_options": options}
    folder = settings.cache / "sentence-transformers-onnx"
    if not folder.is_dir():
        model = CrossEncoder(str(settings.checkpoint), backend="onnx", device=CPU, model_kwargs=dict(how))
        model.save_pretrained(str(folder))
    file = "model.onnx"
    if dtype == "int8":
        file = "model_qint8_avx512_vnni.onnx"
        if not (folder / "onnx" / file).is_file():
            model = CrossEncoder(str(folder), backend="onnx", device=CPU, model_kwargs=dict(how))
            export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    how["file_name"] = f"onnx/{file}"
    return cross_encoder(CrossEncoder(str(folder), backend="onnx", device=CPU, model_kwargs=how))


def sentence_transformers_openvino(settings: Settings, dtype: str) -> Scorer:
    """``CrossEncoder(backend="openvino")``, exported by optimum-intel."""
    import torch
    from sentence_transformers import CrossEncoder

    settings.must_be_cpu()
    torch.set_num_threads(settings.threads)
    how = {"ov_config": openvino_settings(settings.threads, dtype)}
    return cross_encoder(CrossEncoder(str(settings.checkpoint), backend="openvino", device=CPU, model_kwargs=how))


def openvino(settings: Settings, dtype: str) -> Scorer:
    """The same ``torch.onnx`` export in OpenVINO; int8 is NNCF's static quantisation, with SmoothQuant."""
    import openvino as ov
    from transformers import AutoTokenizer

    settings.must_be_cpu()
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    file = settings.cache / "torch-onnx" / "model.onnx"
    if not file.is_file():
        export_torch_onnx(settings.checkpoint, tokenizer, file)
    if dtype == "int8":
        quantised = settings.cache / "openvino" / "model_int8.xml"
        if not quantised.is_file():
            quantise_openvino(file, quantised, tokenizer)
        file = quantised
    request = ov.Core().compile_model(file, "CPU", openvino_settings(settings.threads, dtype)).create_infer_request()

    def run(batch: dict[str, Any]) -> Any:
        return request.infer({name: batch[name] for name in ("input_ids", "attention_mask")})[0][:, 0]

    return sorted_batches(tokenizer, run, "np")


def openvino_settings(threads: int, dtype: str) -> dict[str, str]:
    """Left alone, OpenVINO computes float32 models in bfloat16 where the processor can: the precision is asked for."""
    return {"INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32", "INFERENCE_NUM_THREADS": str(threads)}


def quantise_openvino(file: Path, out: Path, tokenizer: Any) -> None:
    """NNCF's static int8 of a transformer, calibrated on the pairs that our own int8 is calibrated on."""
    import nncf
    import openvino as ov

    records = [json.loads(line) for line in CALIBRATION.read_text(encoding="utf-8").splitlines()]
    batches = [
        {
            name: array
            for name, array in tokenizer([(r["query"], r["document"])], truncation=True, return_tensors="np").items()
            if name in ("input_ids", "attention_mask")
        }
        for r in records
    ]
    quantised = nncf.quantize(
        ov.Core().read_model(file),
        nncf.Dataset(batches),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )
    ov.save_model(quantised, out, compress_to_fp16=False)


def torch_onnx(settings: Settings, dtype: str) -> Scorer:
    """``torch.onnx.export`` of the model as it comes, in ONNX Runtime; int8 is its ``quantize_dynamic``."""
    import onnxruntime as ort
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(settings.threads)
    settings.must_be_cpu()
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    file = settings.cache / "torch-onnx" / "model.onnx"
    if not file.is_file():
        export_torch_onnx(settings.checkpoint, tokenizer, file)
    if dtype == "int8":
        quantised = file.with_name("model_int8.onnx")
        if not quantised.is_file():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(file, quantised, weight_type=QuantType.QInt8, per_channel=True)
        file = quantised
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(batch: dict[str, Any]) -> Any:
        return session.run(None, {name: batch[name] for name in ("input_ids", "attention_mask")})[0][:, 0]

    return sorted_batches(tokenizer, run, "np")


def export_torch_onnx(checkpoint: Path, tokenizer: Any, file: Path) -> None:
    """Write the model with dynamic batch and sequence axes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is not there when types are checked
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    example = tokenizer([("a", "b " * 200), ("a", "c")], padding=True, return_tensors="pt")
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        Logits(),
        (example["input_ids"], example["attention_mask"]),
        str(file),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=(axes, axes),
        opset_version=OPSET,
        dynamo=True,
    )


def sorted_batches(tokenizer: Any, run: Callable[[dict[str, Any]], Any], tensors: str) -> Scorer:
    """Longest first, each batch as wide as its longest pair: what every careful user does."""

    def score(pairs: Pairs, batch: int) -> list[float]:
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        scores = [0.0] * len(pairs)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = tokenizer([pairs[i] for i in chosen], padding=True, truncation=True, return_tensors=tensors)
            for i, value in zip(chosen, run(dict(inputs)), strict=True):
                scores[i] = float(value)
        return scores

    return score


def cross_encoder(model: Any) -> Scorer:
    """``predict`` without the sigmoid, so that scores can be compared."""
    import torch

    def score(pairs: Pairs, batch: int) -> list[float]:
        found = model.predict(pairs, batch_size=batch, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(value) for value in found]

    return score


PEERS: dict[str, Callable[[Settings], Scorer]] = {
    "transformers fp32": partial(transformers_torch, dtype="float32"),
    "transformers bf16": partial(transformers_torch, dtype="bfloat16"),
    "sentence-transformers fp32": partial(sentence_transformers, dtype="float32"),
    "sentence-transformers bf16": partial(sentence_transformers, dtype="bfloat16"),
    "sentence-transformers ONNX fp32": partial(sentence_transformers_onnx, dtype="fp32"),
    "sentence-transformers ONNX int8": partial(sentence_transformers_onnx, dtype="int8"),
    "sentence-transformers OpenVINO": partial(sentence_transformers_openvino, dtype="fp32"),
    "torch.onnx, ONNX Runtime fp32": partial(torch_onnx, dtype="fp32"),
    "torch.onnx, ONNX Runtime int8": partial(torch_onnx, dtype="int8"),
    "torch.onnx, OpenVINO fp32": partial(openvino, dtype="fp32"),
    "torch.onnx, OpenVINO bf16": partial(openvino, dtype="bf16"),
    "torch.onnx, OpenVINO int8": partial(openvino, dtype="int8"),
}
# On GPUs. FlashAttention runs the pairs of a batch unpadded, where its package is installed.
GPU_PEERS: dict[str, Callable[[Settings], Scorer]] = {
    "transformers fp32": PEERS["transformers fp32"],
    "transformers fp16": partial(transformers_torch, dtype="float16"),
    "transformers bf16": PEERS["transformers bf16"],
    "transformers bf16, compiled": partial(transformers_torch, dtype="bfloat16", compiled=True),
    "transformers bf16, FlashAttention": partial(transformers_torch, dtype="bfloat16", attention="flash_attention_2"),
    "sentence-transformers bf16": PEERS["sentence-transformers bf16"],
}


def peak_memory() -> int:
    """Most bytes resident so far."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def serve(load: Callable[[], Scorer]) -> None:
    """Load, say so, answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    score = load()
    there = {entry.metadata["Name"]: entry.version for entry in metadata.distributions()}
    print(json.dumps({"ready": {name: there[name] for name in PACKAGES if name in there}}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        pairs = [(query, document) for query, document in request["pairs"]]
        start = time.perf_counter()
        scores = score(pairs, request["batch"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": scores, "peak_memory": peak_memory()}), file=answers)


def main() -> None:
    """The command line."""
    name, checkpoint, cache, threads, *device = sys.argv[1:]
    settings = Settings(Path(checkpoint), Path(cache), int(threads), *device)
    settings.cache.mkdir(parents=True, exist_ok=True)
    load = {**PEERS, **GPU_PEERS}[name]
    serve(lambda: load(settings))


if __name__ == "__main__":
    main()
