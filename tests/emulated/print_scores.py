"""Print the int8 scores of an artifact, to the last bit, so that those of two processors can be compared.

python tests/emulated/print_scores.py ARTIFACT
"""

import sys

from modernrank import Reranker

PAIRS = [("what is a flea", "a flea is an insect " * repeats) for repeats in (1, 3, 10, 40)]

with Reranker.load(sys.argv[1], precision="int8") as reranker:
    for score in reranker.score(PAIRS):
        print(float(score).hex())
