"""The same calls on the original and on what stands in for it, and whether the results are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sentence_transformers
import torch
from packaging.version import Version

from support.checkpoints import golden

Call = Callable[[Any], Any]
TOLERANCE = 1e-4
QUERY = "what is the capital of China?"
LONG = "the city of Beijing is the capital of the country and its largest river is far away " * 5
DOCUMENTS = ["Beijing is the capital", "Paris", "", "Ωmega 北京 \n😀", "how to bake bread", LONG, "Paris"]
PAIRS = [(QUERY, document) for document in DOCUMENTS] + [("", "x"), (LONG, "short")]
GOLDEN = [(query, document) for query, document in golden("tiny")["pairs"]]

INPUTS: dict[str, Call] = {
    "list of tuples": lambda m: m.predict(PAIRS),
    "list of lists": lambda m: m.predict([list(pair) for pair in PAIRS]),
    "tuple of pairs": lambda m: m.predict(tuple(PAIRS)),
    "array": lambda m: m.predict(np.array(PAIRS)),
    "array of objects": lambda m: m.predict(np.array(PAIRS, dtype=object)),
    "more than a batch": lambda m: m.predict(PAIRS * 3, batch_size=8),
    "golden": lambda m: m.predict(GOLDEN),
    "pair": lambda m: m.predict(PAIRS[0]),
    "pair as a list": lambda m: m.predict(list(PAIRS[0])),
    "pair as an array": lambda m: m.predict(np.array(PAIRS[0])),
    "one text": lambda m: m.predict("a text without a document"),
    "one pair in a list": lambda m: m.predict(PAIRS[:1]),
    "nothing": lambda m: m.predict([]),
    "nothing in a tuple": lambda m: m.predict(()),
    "nothing in an array": lambda m: m.predict(np.empty((0, 2), dtype=object)),
}
RESULTS: dict[str, Call] = {
    "tensor": lambda m: m.predict(PAIRS, convert_to_tensor=True),
    "tensor of a pair": lambda m: m.predict(PAIRS[0], convert_to_tensor=True),
    "tensor of nothing": lambda m: m.predict([], convert_to_tensor=True),
    "tensor rather than array": lambda m: m.predict(PAIRS, convert_to_numpy=True, convert_to_tensor=True),
    "list": lambda m: m.predict(PAIRS, convert_to_numpy=False),
    "list of a pair": lambda m: m.predict(PAIRS[0], convert_to_numpy=False),
    "list of nothing": lambda m: m.predict([], convert_to_numpy=False),
    "by position": lambda m: m.predict(PAIRS, None, None, 8, False, torch.nn.Identity(), False, False, True),
}
ACTIVATIONS: dict[str, Call] = {
    "identity": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Identity()),
    "sigmoid": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Sigmoid()),
    "softmax": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Softmax(dim=1)),
    "softmax of the last axis": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Softmax(dim=-1)),
    "tanh": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Tanh()),
    "function": lambda m: m.predict(PAIRS, activation_fn=torch.sigmoid),
    "lambda": lambda m: m.predict(PAIRS, activation_fn=lambda logits: logits * 2 + 1),
    "half": lambda m: m.predict(PAIRS, activation_fn=lambda logits: torch.round(logits).to(torch.float32)),
    "softmax over the labels": lambda m: m.predict(PAIRS, apply_softmax=True),
    "softmax behind sigmoid": lambda m: m.predict(PAIRS, activation_fn=torch.nn.Sigmoid(), apply_softmax=True),
    "activation of a pair": lambda m: m.predict(PAIRS[0], activation_fn=torch.nn.Sigmoid()),
}
TEXTS: dict[str, Call] = {
    "prompt": lambda m: m.predict(PAIRS, prompt="search: "),
    "no prompt": lambda m: m.predict(PAIRS, prompt=""),
    "prompt of one text": lambda m: m.predict("a text", prompt="search: "),
    "length of a call": lambda m: m.predict(PAIRS, processing_kwargs={"text": {"max_length": 12, "truncation": True}}),
}
OTHERS: dict[str, Call] = {
    "no progress bar": lambda m: m.predict(PAIRS, show_progress_bar=False),
    "progress bar": lambda m: m.predict(PAIRS, show_progress_bar=True),
    "the device": lambda m: m.predict(PAIRS, device="cpu"),
    "number of labels": lambda m: m.num_labels,
    "limit": lambda m: m.max_seq_length,
    "prompts": lambda m: (m.prompts, m.default_prompt_name),
}
OLDER: dict[str, Call] = {
    "sentences": lambda m: m.predict(sentences=PAIRS),
    "activation_fct": lambda m: m.predict(PAIRS, activation_fct=torch.nn.Identity()),
    "both names": lambda m: m.predict(PAIRS, activation_fct=torch.nn.Tanh(), activation_fn=torch.nn.Identity()),
    "num_workers": lambda m: m.predict(PAIRS, num_workers=4),
}
# What sentence-transformers itself did otherwise before: softmax of one label gave 1, and rank refused arguments.
SINCE_6_2 = {"softmax over the labels", "softmax behind sigmoid", "older arguments"}
IS_OLDER = Version(sentence_transformers.__version__) < Version("6.2")


def _of_this_version(calls: dict[str, Call]) -> dict[str, Call]:
    return {name: call for name, call in calls.items() if not (IS_OLDER and name in SINCE_6_2)}


PREDICT = _of_this_version(INPUTS | RESULTS | ACTIVATIONS | TEXTS | OTHERS | OLDER)
RANK = _of_this_version(
    {
        "all": lambda m: m.rank(QUERY, DOCUMENTS),
        "the best": lambda m: m.rank(QUERY, DOCUMENTS, top_k=3),
        "none": lambda m: m.rank(QUERY, DOCUMENTS, top_k=0),
        "more than there are": lambda m: m.rank(QUERY, DOCUMENTS, top_k=99),
        "with texts": lambda m: m.rank(QUERY, DOCUMENTS, return_documents=True),
        "no documents": lambda m: m.rank(QUERY, []),
        "tuple": lambda m: m.rank(QUERY, tuple(DOCUMENTS)),
        # Without the document that occurs twice: in batches of their own, the original's scores of it differ a little.
        "logits": lambda m: m.rank(QUERY, DOCUMENTS[:-1], activation_fn=torch.nn.Identity(), batch_size=2),
        "saturated": lambda m: m.rank(QUERY, DOCUMENTS, activation_fn=lambda logits: torch.sigmoid(logits * 1e4 + 1e6)),
        "prompt": lambda m: m.rank(QUERY, DOCUMENTS, prompt="search: "),
        "by position": lambda m: m.rank(QUERY, DOCUMENTS, 2, True, None, None, 8, False, torch.nn.Sigmoid()),
        "older arguments": lambda m: m.rank(
            QUERY, DOCUMENTS, convert_to_numpy=True, convert_to_tensor=False, apply_softmax=True, num_workers=0
        ),
        "older activation": lambda m: m.rank(QUERY, DOCUMENTS, activation_fct=torch.nn.Identity()),
    }
)
WITH_PROMPTS: dict[str, Call] = {
    "named": lambda m: m.predict(PAIRS, prompt_name="web"),
    "named and ranked": lambda m: m.rank(QUERY, DOCUMENTS, prompt_name="web"),
    "given and named": lambda m: m.predict(PAIRS, prompt="search: ", prompt_name="web"),
}
ERRORS: dict[str, Call] = {
    "no document": lambda m: m.predict([("a", None)]),
    "no query": lambda m: m.predict([(None, "a")]),
    "number": lambda m: m.predict([("a", 3)]),
    "one text in a list": lambda m: m.predict(["a"]),
    "three texts": lambda m: m.predict([("a", "b", "c")]),
    "pairs of arrays": lambda m: m.predict([np.array(pair) for pair in PAIRS]),
    "dictionary": lambda m: m.predict([{"query": "a", "document": "b"}]),
    "iterator": lambda m: m.predict(iter(PAIRS)),
    "batch size": lambda m: m.predict(PAIRS, batch_size=0),
    "unknown prompt": lambda m: m.predict(PAIRS, prompt_name="unknown"),
    "document that is None": lambda m: m.rank(QUERY, ["a", None]),
}


def assert_same(ours: Any, theirs: Any) -> None:
    """Assert that two results have the same types, shapes, keys and order, and the same numbers to the tolerance."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        assert_same(list(ours.values()), list(theirs.values()))
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(theirs, float | np.ndarray | np.floating | torch.Tensor):
        if not isinstance(theirs, float) or isinstance(theirs, np.floating):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=TOLERANCE)
    else:
        assert ours == theirs
