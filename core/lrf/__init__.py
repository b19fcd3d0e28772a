"""lrf turns any LLM into a reward model for long-context answers, and that reward into a better policy.

Everything in ``__all__`` is public. Names are imported when they are first used, so ``import lrf`` costs next to
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrf.api import RewardModel, run
    from lrf.errors import (
        BadReplyError,
        BudgetError,
        ConfigError,
        DataError,
        GateError,
        JudgeError,
        JudgeMisconfiguredError,
        LrfError,
        ParseError,
        PluginError,
        Problem,
        RateLimitedError,
        RejectedError,
        RunError,
        RunInterruptedError,
        StageError,
        TimedOutError,
        UnavailableError,
        UnscorableError,
    )
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import API_VERSION, ComponentSpec
    from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict, Verdicts
    from lrf.prompting.requests import Answer, Reply, Request, Usage
    from lrf.prompting.templates import Prompt, Segment, Template
    from lrf.protocols import (
        Aggregator,
        Capabilities,
        Context,
        Dimension,
        Embedder,
        GenerationSettings,
        Index,
        Judge,
        Pairing,
        Retriever,
        Sampler,
        Source,
        Trainer,
        TrainingJob,
        TrainingResult,
    )
    from lrf.settings import FilePath, Settings
    from lrf.types import (
        BadRow,
        Candidate,
        Chunk,
        Document,
        JudgedStatement,
        Judgement,
        LeftOut,
        Message,
        Note,
        PreferencePair,
        Quotation,
        Reward,
        Sample,
        Span,
        ToolCall,
        Unscored,
        Vote,
    )

    __version__: str

__all__ = [
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

_MODULES = (
    *("errors", "plugin.spec", "types", "plugin.hookspecs", "prompting.templates", "prompting.requests"),
    *("prompting.expectations", "protocols", "settings", "api"),
)
"""Where the names live, the lightest first."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        globals()[name] = version("lrf")
    elif name in __all__:
        from importlib import import_module

        globals()[name] = next(
            getattr(module, name) for m in _MODULES if hasattr(module := import_module(f"lrf.{m}"), name)
        )
    else:
        raise AttributeError(f"module 'lrf' has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
