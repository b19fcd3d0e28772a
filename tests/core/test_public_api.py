"""The public names of lrf are a promise: a change here is a change for users."""

from __future__ import annotations

import re
from pathlib import Path

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
    "CommandSpec",
    "ComponentSpec",
    "ConfigError",
    "Context",
    "DamagedJournalError",
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
    "Question",
    "Quotation",
    "RateLimitedError",
    "Rating",
    "Reason",
    "RejectedError",
    "Reply",
    "Request",
    "Retriever",
    "Reward",
    "RewardModel",
    "RunError",
    "RunIndex",
    "RunInterruptedError",
    "Sample",
    "Sampler",
    "ScoredCandidate",
    "ScoredRun",
    "ScoredSample",
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
    "YesOrNo",
    "__version__",
    "hookimpl",
    "load_run",
    "run",
]


def test_the_public_names_are_these() -> None:
    assert lrf.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_importable_and_listed(name: str) -> None:
    assert getattr(lrf, name) is not None
    assert name in dir(lrf)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lrf' has no attribute 'RewrdModel'"):
        _ = lrf.RewrdModel  # type: ignore[attr-defined]


def test_type_checkers_see_the_names_of_every_module_that_is_searched() -> None:
    source = Path(lrf.__file__).read_text(encoding="utf-8")
    starred = re.findall(r"from (\S+) import \*", source)
    exported = re.findall(r"__all__ \+= (\w+)\.__all__", source)
    assert sorted(starred) == sorted(lrf._MODULES)
    assert sorted(exported) == sorted(module.rpartition(".")[2] for module in lrf._MODULES)
