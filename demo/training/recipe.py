"""The settings of every stage. Another recipe trains another model: the shipped one is described in its model card."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 0
MAX_TOKENS = 128  # limit of a pair in training
MAX_TOKENS_SHIPPED = 192  # limit in stages 4 and 6 and in the tokenizer's configuration; better than 128 or 256
NEGATIVES = 9  # number in a list
WARM_UP_STEPS = 100  # the learning rate rises from 0 in these steps of stages 2, 3 and 5
VALIDATION_STEPS = 1000  # steps from one validation to the next
FOLDS = 5  # folds of the cross-validation in stages 4 and 6
LEXICAL_UNIT = 3.0  # the BM25 score for which the lexical head predicts 1
LEXICAL_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # shares of the lexical head to add to the classifier


@dataclass(frozen=True)
class Mixture:
    """What lists are drawn from.

    Attributes:
        easy: The chance that an epoch has a query for which a search for its words suffices.
        hiding: The share of the lists whose documents have words of the query hidden.
    """

    easy: float
    hiding: float


@dataclass(frozen=True)
class MatchingStage:
    """Stage 2, on pairs of random tokens."""

    steps: int = 400
    rate: float = 1.5e-3
    pairs: int = 128


@dataclass(frozen=True)
class RankingStage:
    """Stage 3, on lists of documents.

    Attributes:
        steps: The number of steps.
        rate: The highest learning rate.
        lists: The number of lists of a step.
        easy_steps: The share of the steps that come first, with synopses alone as queries and no words hidden.
        easy_mixture: What the lists of these steps are drawn from.
        mixture: What the lists of the other steps are drawn from.
        matching_start: The weight of the matching question at first.
        matching_fall: How far this weight falls over all steps, unless it reaches its minimum.
        matching_min: The minimum of this weight; it applies from 0.38 of the steps on.
        lexical: The weight of the question for BM25's score.
    """

    steps: int = 10_000
    rate: float = 1e-3
    lists: int = 12
    easy_steps: float = 0.15
    easy_mixture: Mixture = Mixture(easy=0.5, hiding=0)
    mixture: Mixture = Mixture(easy=0.5, hiding=0.5)
    matching_start: float = 4.0
    matching_fall: float = 10
    matching_min: float = 0.2
    lexical: float = 0.5


@dataclass(frozen=True)
class SumStage:
    """Stage 5, on lists of documents and made-up lists.

    Attributes:
        steps: The number of steps.
        rate: The highest learning rate.
        lists: The number of lists of a step whose queries are from packages.
        made_up_lists: The number of lists of a step whose queries are made up.
        mixture: What the former are drawn from.
        matching: The weight of the matching question.
    """

    steps: int = 6500
    rate: float = 8e-4
    lists: int = 8
    made_up_lists: int = 4
    mixture: Mixture = Mixture(easy=0.5, hiding=0.25)
    matching: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """The stages whose length can be chosen, and the maximum number of validation queries (None for all).

    >>> Recipe(ranking=RankingStage(steps=0))
    Traceback (most recent call last):
    ValueError: stage 3 (ranking) has 0 steps; the minimum is 1, because stage 4 starts from its checkpoint
    """

    matching: MatchingStage = MatchingStage()
    ranking: RankingStage = RankingStage()
    sum: SumStage = SumStage()
    validation_queries: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail in a later stage."""
        for stage, steps in (("2 (matching)", self.matching.steps), ("5 (sum)", self.sum.steps)):
            if steps < 0:
                raise ValueError(f"stage {stage} has {steps} steps; the minimum is 0, which leaves the stage out")
        if self.ranking.steps < 1:
            raise ValueError(
                f"stage 3 (ranking) has {self.ranking.steps} steps; the minimum is 1, because stage 4 starts from its "
                "checkpoint"
            )
        if self.validation_queries is not None and self.validation_queries < FOLDS:
            raise ValueError(
                f"{self.validation_queries} validation queries; the minimum is {FOLDS}, one for each fold of stage 4"
            )
