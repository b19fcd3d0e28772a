"""The public names of lrf are a promise: a change here is a change for users."""

from __future__ import annotations

import pytest

import lrf

PUBLIC = [
    "API_VERSION",
    "Aggregator",
    "Answer",
    "BadReplyError",
    "BadRow",
    "BudgetError",
    "Candidate",
    "Capabilities",
    "Choice",
    "Chunk",
    "ComponentSpec",
    "ConfigError",
    "Context",
    "DataError",
    "Dimension",
    "Document",
    "Embedder",
    "FilePath",
    "GateError",
    "GenerationSettings",
    "Index",
    "Judge",
    "JudgeError",
    "JudgeMisconfiguredError",
    "JudgedStatement",
    "Judgement",
    "LeftOut",
    "LrfError",
    "Message",
    "Note",
    "Pairing",
    "ParseError",
    "PluginError",
    "PreferencePair",
    "Problem",
    "Prompt",
    "Quotation",
    "RateLimitedError",
    "Rating",
    "RejectedError",
    "Reply",
    "Request",
    "Retriever",
    "Reward",
    "RewardModel",
    "RunError",
    "RunInterruptedError",
    "Sample",
    "Sampler",
    "Segment",
    "Settings",
    "Source",
    "Span",
    "StageError",
    "Statements",
    "Template",
    "Text",
    "TimedOutError",
    "ToolCall",
    "Trainer",
    "TrainingJob",
    "TrainingResult",
    "UnavailableError",
    "UnscorableError",
    "Unscored",
    "Usage",
    "Verdict",
    "Verdicts",
    "Vote",
    "__version__",
    "hookimpl",
    "run",
]


def test_the_public_names_are_these() -> None:
    assert sorted(lrf.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(lrf, name) is not None
    assert name in dir(lrf)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lrf' has no attribute 'RewrdModel'"):
        _ = lrf.RewrdModel  # type: ignore[attr-defined]
