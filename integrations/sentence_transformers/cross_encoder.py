"""``CrossEncoder``: the class of sentence-transformers, with modernrank behind it."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.options import TextLimits, positive

from .activations import Activation, activation_in, activation_of, torch_for
from .arguments import Hub, Settings, call_limits, check_unused, device_of, length_for, refused
from .inputs import read_inputs, score_texts
from .renamed import accepts_older_names

logger = logging.getLogger(__name__)

ELSEWHERE = {
    "fit": "train with sentence_transformers.CrossEncoder, save, and load the result here",
    "save": "the artifact's folder is what is saved; copy it",
    "save_pretrained": "the artifact's folder is what is saved; copy it",
    "push_to_hub": "upload the artifact's folder",
    "start_multi_process_pool": "it already uses all cores; call predict",
    "compile": "the graph is compiled when it is loaded",
    "half": "choose model_kwargs={'precision': 'fp16'} or 'int8'",
    "model": "`reranker` is what runs",
    "config": "`reranker.manifest` has the model's facts",
    "tokenizer": "`reranker.count_tokens` counts tokens",
}


class CrossEncoder:
    """A reranker with the interface of ``sentence_transformers.CrossEncoder``, and its scores.

    It requires neither torch nor sentence-transformers, unless tensors are asked for. Threads may share it.

    >>> from modernrank.integrations.sentence_transformers import CrossEncoder
    >>> with CrossEncoder(TINY) as model:                                        # an artifact's folder
    ...     scores = model.predict([("capital of France?", "Paris"), ("capital of France?", "A baguette")])
    ...     best = model.rank("capital of France?", ["A baguette", "Paris"], top_k=1)
    >>> scores.shape, scores.dtype, sorted(best[0])
    ((2,), dtype('float32'), ['corpus_id', 'score'])
    """

    prompts: dict[str, str]
    default_prompt_name: str | None
    _limits: TextLimits

    @accepts_older_names(
        2,  # the object and its name; then what had positions before version 5.4
        ("num_labels", "max_length", "activation_fn", "device"),
        model_name="model_name_or_path",
        automodel_args="model_kwargs",
        tokenizer_args="processor_kwargs",
        tokenizer_kwargs="processor_kwargs",
        config_args="config_kwargs",
        cache_dir="cache_folder",
        default_activation_function="activation_fn",
        classifier_dropout=None,
    )
    def __init__(
        self,
        model_name_or_path: str | Path | None = None,
        *,
        modules: None = None,
        device: Any = None,
        prompts: Mapping[str, str | None] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: None = None,
        backend: str = "torch",
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        keep_in_fp32_modules: list[str] | None = None,
    ) -> None:
        """Load a model; the arguments are those of ``sentence_transformers.CrossEncoder``.

        Args:
            model_name_or_path: an artifact's folder, or a checkpoint, which is exported once into the cache: a folder
                or a hub id. A checkpoint runs in float32, and an artifact in what ``Reranker.load`` chooses.
            modules: refused.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, or the device of torch; by default what ``Reranker.load``
                chooses for an artifact, and the processor for a checkpoint.
            prompts: texts by name that a call may put before its queries, in addition to the model's.
            default_prompt_name: the prompt of calls that choose none; by default the model's.
            cache_folder: folder for exported checkpoints; by default modernrank's cache.
            trust_remote_code: whether a class outside torch that the checkpoint names as its activation is imported.
            revision: commit, tag or branch of a hub id.
            local_files_only: refused for hub ids, unless ``HF_HUB_OFFLINE`` is set.
            token: refused for hub ids; ``HF_TOKEN`` is read.
            model_kwargs: arguments of ``Reranker.load`` such as ``precision``, ``provider`` and ``threads``.
            processor_kwargs: ``model_max_length`` and ``truncation_side``.
            config_kwargs: ``num_labels``.
            model_card_data: refused.
            backend: ``"torch"`` or ``"onnx"``; both are modernrank.
            num_labels: must be the model's number of labels.
            max_length: maximum number of tokens in a pair.
            activation_fn: as in ``predict``; by default what the checkpoint asks for.
            keep_in_fp32_modules: refused.

        Raises:
            InputError: an argument cannot be honoured; it is also a ``ValueError``.
            ArtifactError, ProviderError: as ``Reranker.load`` and ``Reranker.from_checkpoint``.
        """
        check_unused(
            backend,
            modules=modules,
            model_card_data=model_card_data,
            keep_in_fp32_modules=keep_in_fp32_modules,
        )
        settings = Settings.read(
            model_kwargs, processor_kwargs, config_kwargs, max_length=max_length, num_labels=num_labels
        )
        hub = Hub(revision, cache_folder, local_files_only, token)
        self.reranker = hub.open(model_name_or_path, device, settings.load)
        self.model_card_data = Metrics()
        with ExitStack() as opened:  # the model is closed if something is refused
            opened.callback(self.reranker.close)
            self._configure(settings, prompts, default_prompt_name)
            self.activation_fn = self._default_activation(trust_remote_code) if activation_fn is None else activation_fn
            opened.pop_all()

    @property
    def num_labels(self) -> int:
        """Number of labels of the model."""
        return len(self.reranker.labels)

    @property
    def activation_fn(self) -> Activation:
        """What ``predict`` applies to logits unless a call chooses: a name, or what was given."""
        return self._activation_fn

    @activation_fn.setter
    def activation_fn(self, activation: Activation) -> None:
        activation_of(activation)
        self._activation_fn = activation

    default_activation_function = activation_fn

    @property
    def max_seq_length(self) -> int:
        """The maximum number of tokens in a pair. It can be lowered; None sets the model's limit."""
        return self._limits.max_length or self.reranker.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        self._limits = self._limits | TextLimits(length_for(tokens, self.reranker.manifest))

    max_length = max_seq_length

    @property
    def device(self) -> str:
        """The device that runs the model: ``"cpu"``, or ``"cuda:N"`` for the first GPU of several."""
        info = self.reranker.info
        if info.provider == "cpu":
            return "cpu"
        first = info.devices[0] if info.devices else "0"
        return f"cuda:{first.partition(':')[0]}"

    @accepts_older_names(sentences="inputs", activation_fct="activation_fn", num_workers=None)
    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: None = None,
        chunk_size: int | None = None,
        *,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Score pairs, or one pair.

        Args:
            inputs: a list or tuple of (query, document) pairs, an array of strings ``[pairs, 2]``, or one pair; a
                single string is scored as one text without a document.
            prompt_name: name of one of ``prompts``, to be put before each query.
            prompt: text to be put before each query; it wins over ``prompt_name``, and ``""`` stands for none.
            batch_size: at least 1. It changes neither scores nor speed: batches are made of tokens, not of pairs.
            show_progress_bar: whether to draw one; by default where logging shows information. Requires tqdm.
            activation_fn: a module of torch such as ``torch.nn.Sigmoid()``; ``"identity"``, ``"sigmoid"`` or
                ``"softmax"``; or a callable of tensors ``[pairs, labels]``. By default that of the object.
            apply_softmax: whether to apply softmax over several labels behind the activation.
            convert_to_numpy: whether the result is an array; otherwise a list of tensors, which requires torch.
            convert_to_tensor: whether the result is one tensor, which requires torch.
            device: the one that runs the model, or a list of such.
            pool: refused.
            chunk_size: without effect, as it belongs to pools.
            processing_kwargs: ``{"text": {"max_length": 512}}`` lowers the limit for this call.

        Returns:
            Float32 ``[pairs]`` for a model of one label, and ``[pairs, labels]`` for one of several; for a single pair
            a number, or ``[labels]``. No pairs give an empty array, list or tensor of ``[0]``.

        Raises:
            InputError: ``inputs`` are not pairs of strings, or an argument cannot be honoured.
        """
        positive("batch_size", batch_size)
        self._check_place(device, pool)
        limits = self._limits | call_limits(processing_kwargs) | TextLimits(prompt=self._prompt(prompt, prompt_name))
        activate = activation_of(self.activation_fn if activation_fn is None else activation_fn)
        listed, is_single = read_inputs(inputs)
        logits = self._logits(listed, limits, _shows_progress(show_progress_bar))
        scores = activate(logits) if len(logits) else logits
        if self.num_labels == 1 and scores.ndim > 1 and scores.shape[-1] == 1:
            scores = scores[..., 0]
        if apply_softmax and scores.ndim > 1:
            scores = activation_of("softmax")(scores)
        result = _converted(np.ascontiguousarray(scores), convert_to_numpy, convert_to_tensor)
        return result[0] if is_single else result

    @accepts_older_names(
        activation_fct="activation_fn",
        num_workers=None,
        convert_to_numpy=None,
        convert_to_tensor=None,
        apply_softmax=None,
    )
    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: Any = None,
        pool: None = None,
        chunk_size: int | None = None,
    ) -> list[dict[str, Any]]:
        """Sort documents by their score for a query, best first, ties by index.

        Args:
            query: the query.
            documents: strings.
            top_k: number of documents to return; all by default.
            return_documents: whether the entries have the document as ``text``.
            prompt_name: as in ``predict``, like all further arguments.
            prompt: as in ``predict``.
            batch_size: as in ``predict``.
            show_progress_bar: as in ``predict``.
            activation_fn: as in ``predict``.
            device: as in ``predict``.
            pool: as in ``predict``.
            chunk_size: as in ``predict``.

        Returns:
            ``{"corpus_id": index, "score": float}`` for each document, with ``"text"`` if it was asked for.

        Raises:
            InputError: the model has several labels, or as in ``predict``.
        """
        if self.num_labels != 1:
            raise InputError(
                f"rank requires a model of one label, and {self.reranker.manifest.name} has {self.num_labels}; use "
                "predict and choose a label",
                labels=self.reranker.labels,
            )
        listed = list(documents)
        scores = self.predict(
            [(query, document) for document in listed],
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fn=activation_fn,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
        ).tolist()
        order = sorted(range(len(listed)), key=lambda index: -scores[index])[:top_k]
        texts = [{"text": listed[index]} if return_documents else {} for index in order]
        return [{"corpus_id": index, "score": scores[index], **text} for index, text in zip(order, texts, strict=True)]

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """Let an evaluator of sentence-transformers measure this model; the result is the evaluator's."""
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)
        return evaluator(self, output_path)

    def to(self, device: Any) -> Self:
        """The object itself, if ``device`` is the one that runs the model.

        Raises:
            InputError: it is another one.
        """
        self._check_place(device, None)
        return self

    def eval(self) -> Self:
        """The object itself: it only ever evaluates."""
        return self

    def close(self) -> None:
        """Free the model. Scoring afterwards is an error; closing twice is not."""
        self.reranker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CrossEncoder({self.reranker!r})"

    def __getattr__(self, name: str) -> Any:
        advice = ELSEWHERE.get(name)
        raise AttributeError(
            f"modernrank's CrossEncoder has no {name!r}{'' if advice is None else f': {advice}'}", name=name, obj=self
        )

    def _logits(self, inputs: list[Any], limits: TextLimits, show_progress: bool) -> FloatArray:
        """Float32 ``[inputs, labels]``."""
        if len(inputs) == 1 and isinstance(inputs[0], str):
            scores = score_texts(self.reranker, inputs, limits)
        else:
            scores = self.reranker.score(inputs, limits=limits, show_progress=show_progress)
        return scores.reshape(-1, self.num_labels)

    def _configure(self, settings: Settings, prompts: Mapping[str, str | None] | None, default: str | None) -> None:
        settings.check_labels(self.reranker)
        self._limits = settings.limits
        self.max_seq_length = settings.max_length
        recorded = self.reranker.manifest.tokenizer
        given = {name: text for name, text in (prompts or {}).items() if text is not None}
        self.prompts = {**dict.fromkeys(prompts or {}, ""), **recorded.prompts, **given}
        self.default_prompt_name = recorded.default_prompt if default is None else default
        if self.default_prompt_name is not None:
            self._prompt(None, self.default_prompt_name)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        """The text to put before queries, which replaces the artifact's own default."""
        if prompt is not None:
            if name is not None:
                warnings.warn(f"prompt was given, so prompt_name {name!r} is ignored", UserWarning, 3)
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(
                f"prompt_name {name!r} is unknown; the prompts are: {', '.join(self.prompts) or 'none'}",
                argument="prompt_name",
                value=name,
                choices=tuple(self.prompts),
            )
        return self.prompts[name]

    def _default_activation(self, trust_remote_code: bool) -> Activation:
        """What the checkpoint asks for, as sentence-transformers reads it."""
        manifest = self.reranker.manifest
        name = manifest.model.activation
        if not name:
            raise InputError(
                f"{manifest.name} does not record the checkpoint's activation; give activation_fn, or export it again",
                argument="activation_fn",
            )
        if "." not in name or name.startswith("torch.nn."):
            return name
        if trust_remote_code or name.startswith("torch."):
            return activation_in(name)
        default = "sigmoid" if self.num_labels == 1 else "identity"
        logger.warning(
            "the checkpoint's activation %s is not trusted, so it is %s; load it with trust_remote_code=True to import "
            "it",
            name,
            default,
        )
        return default

    def _check_place(self, device: Any, pool: object) -> None:
        if pool is not None:
            raise refused("pool", pool, ELSEWHERE["start_multi_process_pool"])
        for asked in device if isinstance(device, list) else [device]:
            if asked is not None and device_of(asked)[0] != self.device.partition(":")[0]:
                raise refused("device", asked, f"the model runs on {self.device}; make a CrossEncoder for the other")


class Metrics:
    """What evaluators of sentence-transformers record in a model card: the last figures of each, by its name."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        """Keep the figures of an evaluator."""
        name = getattr(evaluator, "name", "") or type(evaluator).__name__
        self.metrics[str(name)] = dict(metrics)


def _shows_progress(chosen: bool | None) -> bool:
    if chosen is not None:
        return chosen
    return logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG) and importlib.util.find_spec("tqdm") is not None


def _converted(scores: FloatArray, convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
    if convert_to_tensor:
        torch = torch_for("convert_to_tensor=True")
        return torch.from_numpy(scores) if len(scores) else torch.tensor([])
    if convert_to_numpy:
        return scores if len(scores) else np.array([])
    if not len(scores):
        return []
    return list(torch_for("convert_to_numpy=False").from_numpy(scores))
