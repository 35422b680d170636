"""One peer in a process of its own. It loads once, then scores requests and reports how long each took.

    python peer_process.py '{"peer": NAME, "checkpoint": FOLDER, "cache": FOLDER, "calibration": FILE, "threads": 2}'

The argument holds the peer's name and the fields of ``Settings``. Requests and answers are JSON lines on standard input
and output: ``{"pairs": [[query, document], ..], "batch": 32}`` is answered by ``{"seconds": .., "scores": [..],
"peak_memory": ..}``. The first line that the process writes is ``{"versions": {..}, "info": {..}}``, which says that it
is ready.

This module imports nothing of modernrank, because it runs in environments without it.
"""

from __future__ import annotations

import importlib.util
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
Scorer = Callable[[Pairs, int], list[float]]  # pairs and the batch size; a score for each pair
PACKAGES = (
    *("torch", "transformers", "sentence-transformers", "onnxruntime", "onnx", "optimum", "optimum-onnx"),
    *("optimum-intel", "openvino", "nncf"),
)
OPSET = 18
CPU = "cpu"
STATUS = Path("/proc/self/status")
TORCH_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Settings:
    """What a peer runs on.

    checkpoint:  the folder of the checkpoint.
    cache:       the folder that keeps what a peer exports, which takes minutes.
    calibration: JSON lines of pairs on which a peer may calibrate int8.
    threads:     number of threads.
    device:      torch's name of the device.
    """

    checkpoint: Path
    cache: Path
    calibration: Path
    threads: int
    device: str = CPU

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Settings:
        """The settings with these fields, of which paths are strings."""
        paths = {name: Path(fields[name]) for name in ("checkpoint", "cache", "calibration")}
        return Settings(**{**fields, **paths})

    def require_cpu(self) -> None:
        """Refuse GPUs, for peers that cannot use them.

        Raises:
            ValueError: the device is not the CPU.
        """
        if self.device != CPU:
            raise ValueError(f"this peer runs on the CPU only, and the device is {self.device!r}")


def transformers_torch(settings: Settings, precision: str, attention: str = "sdpa", compiled: bool = False) -> Scorer:
    """Transformers with padded batches, sorted by length; ``attention`` is its ``attn_implementation``."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(
        settings.checkpoint, dtype=getattr(torch, TORCH_TYPES[precision]), attn_implementation=attention
    )
    model = model.eval().to(settings.device)
    forward = torch.compile(model, dynamic=True) if compiled else model

    def run(batch: dict[str, Any]) -> Any:
        with torch.inference_mode():
            inputs = {name: tensor.to(settings.device) for name, tensor in batch.items()}
            return forward(**inputs).logits[:, 0].float().cpu().numpy()

    return sorted_batches(tokenizer, run, "pt")


def torch_packed(settings: Settings, precision: str, compiled: bool = False) -> Scorer:
    """Torch with packed batches, sorted by length like those of the others: no token of padding is computed.

    On a processor attention is computed pair by pair, which shows only that scores agree.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(settings.threads)
    packed_torch = module_beside("packed_torch")
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(
        settings.checkpoint, dtype=getattr(torch, TORCH_TYPES[precision])
    )
    model = model.eval().to(settings.device)
    attend = packed_torch.looped_attention if settings.device == CPU else packed_torch.varlen_attention()
    logits = torch.compile(packed_torch.packed_logits, dynamic=True) if compiled else packed_torch.packed_logits

    def run(batch: dict[str, Any]) -> Any:
        with torch.inference_mode():
            packed = packed_torch.pack(batch, settings.device)
            return logits(model, packed, attend)[:, 0].float().cpu().numpy()

    return sorted_batches(tokenizer, run, "pt")


def module_beside(name: str) -> Any:
    """A module in the folder of this file, which is not part of a package where modernrank is not installed."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def sentence_transformers(settings: Settings, precision: str) -> Scorer:
    """``CrossEncoder.predict`` in torch."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(settings.threads)
    options = {"dtype": getattr(torch, TORCH_TYPES[precision])}
    model = CrossEncoder(str(settings.checkpoint), device=settings.device, model_kwargs=options)
    return cross_encoder(model)


def sentence_transformers_onnx(settings: Settings, precision: str) -> Scorer:
    """``CrossEncoder(backend="onnx")``, exported by optimum; int8 is sentence-transformers' ``avx512_vnni`` recipe."""
    import onnxruntime
    import torch
    from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

    settings.require_cpu()
    torch.set_num_threads(settings.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    how = {"provider": "CPUExecutionProvider", "session_options": options}
    folder = settings.cache / "sentence-transformers-onnx"
    if not folder.is_dir():
        model = CrossEncoder(str(settings.checkpoint), backend="onnx", device=CPU, model_kwargs=dict(how))
        model.save_pretrained(str(folder))
    file = "model.onnx"
    if precision == "int8":
        file = "model_qint8_avx512_vnni.onnx"
        if not (folder / "onnx" / file).is_file():
            model = CrossEncoder(str(folder), backend="onnx", device=CPU, model_kwargs=dict(how))
            export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    how["file_name"] = f"onnx/{file}"
    return cross_encoder(CrossEncoder(str(folder), backend="onnx", device=CPU, model_kwargs=how))


def sentence_transformers_openvino(settings: Settings, precision: str) -> Scorer:
    """``CrossEncoder(backend="openvino")``, exported by optimum-intel."""
    import torch
    from sentence_transformers import CrossEncoder

    settings.require_cpu()
    torch.set_num_threads(settings.threads)
    how = {"ov_config": openvino_settings(settings.threads, precision)}
    return cross_encoder(CrossEncoder(str(settings.checkpoint), backend="openvino", device=CPU, model_kwargs=how))


def openvino(settings: Settings, precision: str) -> Scorer:
    """The export of ``torch_onnx`` in OpenVINO; int8 is NNCF's static quantisation, with SmoothQuant."""
    import openvino as ov
    from transformers import AutoTokenizer

    settings.require_cpu()
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    file = settings.cache / "torch-onnx" / "model.onnx"
    if not file.is_file():
        export_torch_onnx(settings.checkpoint, tokenizer, file)
    if precision == "int8":
        quantised = settings.cache / "openvino" / "model_int8.xml"
        if not quantised.is_file():
            quantise_openvino(file, quantised, tokenizer, settings.calibration)
        file = quantised
    compiled = ov.Core().compile_model(file, "CPU", openvino_settings(settings.threads, precision))
    request = compiled.create_infer_request()

    def run(batch: dict[str, Any]) -> Any:
        return request.infer({name: batch[name] for name in ("input_ids", "attention_mask")})[0][:, 0]

    return sorted_batches(tokenizer, run, "np")


def openvino_settings(threads: int, precision: str) -> dict[str, str]:
    """The settings with an explicit precision: by default OpenVINO computes float32 models in bfloat16 if it can."""
    hint = "bf16" if precision == "bf16" else "f32"
    return {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}


def quantise_openvino(file: Path, out: Path, tokenizer: Any, calibration: Path) -> None:
    """Write NNCF's static int8 of a transformer, calibrated on the pairs of a JSON lines file."""
    import nncf
    import openvino as ov

    records = [json.loads(line) for line in calibration.read_text(encoding="utf-8").splitlines()]
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


def torch_onnx(settings: Settings, precision: str) -> Scorer:
    """``torch.onnx.export`` of the model of transformers, in ONNX Runtime; int8 is its ``quantize_dynamic``."""
    import onnxruntime as ort
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(settings.threads)
    settings.require_cpu()
    tokenizer = AutoTokenizer.from_pretrained(settings.checkpoint)
    file = settings.cache / "torch-onnx" / "model.onnx"
    if not file.is_file():
        export_torch_onnx(settings.checkpoint, tokenizer, file)
    if precision == "int8":
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

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is not installed when types are checked
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
    """Score the longest pairs first, each batch as wide as its longest pair, as a careful user would."""

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
    """Score with ``predict`` without the sigmoid, so that scores can be compared."""
    import torch

    def score(pairs: Pairs, batch: int) -> list[float]:
        logits = model.predict(pairs, batch_size=batch, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(value) for value in logits]

    return score


@dataclass(frozen=True)
class Peer:
    """A way to run the checkpoint.

    load:        loads it in ``precision``.
    precision:   what it computes in.
    environment: the virtual environment with what it requires, a key of ``environments.ENVIRONMENTS``.
    """

    load: Callable[[Settings, str], Scorer]
    precision: str
    environment: str


PEERS = {
    "transformers fp32": Peer(transformers_torch, "fp32", "torch"),
    "transformers bf16": Peer(transformers_torch, "bf16", "torch"),
    "sentence-transformers fp32": Peer(sentence_transformers, "fp32", "torch"),
    "sentence-transformers bf16": Peer(sentence_transformers, "bf16", "torch"),
    "sentence-transformers ONNX fp32": Peer(sentence_transformers_onnx, "fp32", "optimum"),
    "sentence-transformers ONNX int8": Peer(sentence_transformers_onnx, "int8", "optimum"),
    "sentence-transformers OpenVINO": Peer(sentence_transformers_openvino, "fp32", "openvino"),
    "torch.onnx, ONNX Runtime fp32": Peer(torch_onnx, "fp32", "torch"),
    "torch.onnx, ONNX Runtime int8": Peer(torch_onnx, "int8", "torch"),
    "torch.onnx, OpenVINO fp32": Peer(openvino, "fp32", "openvino"),
    "torch.onnx, OpenVINO bf16": Peer(openvino, "bf16", "openvino"),
    "torch.onnx, OpenVINO int8": Peer(openvino, "int8", "openvino"),
}
# On GPUs. FlashAttention runs the pairs of a batch unpadded, if its package is installed; torch's own varlen attention
# always does.
GPU_PEERS = {
    "transformers fp32": PEERS["transformers fp32"],
    "transformers fp16": Peer(transformers_torch, "fp16", "torch"),
    "transformers bf16": PEERS["transformers bf16"],
    "transformers bf16, compiled": Peer(partial(transformers_torch, compiled=True), "bf16", "torch"),
    "transformers bf16, FlashAttention": Peer(
        partial(transformers_torch, attention="flash_attention_2"), "bf16", "torch"
    ),
    "torch bf16, packed varlen": Peer(torch_packed, "bf16", "torch"),
    "torch bf16, packed varlen, compiled": Peer(partial(torch_packed, compiled=True), "bf16", "torch"),
    "sentence-transformers bf16": PEERS["sentence-transformers bf16"],
}


def peak_memory() -> int:
    """Maximum number of resident bytes of this process so far.

    ``getrusage`` is not used on Linux, because a process inherits its figure from the one that started it.
    """
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(load: Callable[[], tuple[Scorer, dict[str, Any]]]) -> None:
    """Load, report versions and what runs, and answer requests until the input ends.

    ``load`` returns the scorer, and what runs as a contender reports it (``Measurement.runtime``).
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers
    score, info = load()
    installed = {entry.metadata["Name"]: entry.version for entry in metadata.distributions()}
    versions = {name: installed[name] for name in PACKAGES if name in installed}
    print(json.dumps({"versions": versions, "info": info}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        pairs = [(query, document) for query, document in request["pairs"]]
        start = time.perf_counter()
        scores = score(pairs, request["batch"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": scores, "peak_memory": peak_memory()}), file=answers)


def main() -> None:
    """Run the peer that the command line's argument names."""
    fields = json.loads(sys.argv[1])
    peer = {**PEERS, **GPU_PEERS}[fields.pop("peer")]
    settings = Settings.from_json(fields)
    settings.cache.mkdir(parents=True, exist_ok=True)
    serve(lambda: (peer.load(settings, peer.precision), {}))


if __name__ == "__main__":
    main()
