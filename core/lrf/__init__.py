"""lrf turns any LLM into a reward model for long-context answers, and that reward into a better policy.

Everything in ``__all__`` is public. Names are imported when they are first used, so ``import lrf`` costs next to
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrf.api import RewardModel, run
    from lrf.errors import (
        BadReply,
        BudgetError,
        ConfigError,
        DataError,
        GateError,
        Interrupted,
        JudgeError,
        JudgeMisconfigured,
        LrfError,
        ParseFailure,
        PluginError,
        Problem,
        RateLimited,
        Rejected,
        RunError,
        StageError,
        TimedOut,
        Unavailable,
        Unscorable,
    )
    from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict, Verdicts
    from lrf.plugin.hookspecs import hookimpl
    from lrf.protocols import (
        Aggregator,
        Capabilities,
        Context,
        Dimension,
        Drawing,
        Embedder,
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
    from lrf.prompting.requests import Answer, Reply, Request, Usage
    from lrf.settings import FilePath, Settings
    from lrf.plugin.spec import API_VERSION, ComponentSpec
    from lrf.prompting.templates import Prompt, Segment, Template
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
        Opinion,
        PreferencePair,
        Quotation,
        Reward,
        Sample,
        Span,
        ToolCall,
        Unscored,
    )

    __version__: str

__all__ = [
    "API_VERSION",
    "Aggregator",
    "Answer",
    "BadReply",
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
    "Drawing",
    "Embedder",
    "FilePath",
    "GateError",
    "Index",
    "Interrupted",
    "Judge",
    "JudgeError",
    "JudgeMisconfigured",
    "JudgedStatement",
    "Judgement",
    "LeftOut",
    "LrfError",
    "Message",
    "Note",
    "Opinion",
    "Pairing",
    "ParseFailure",
    "PluginError",
    "PreferencePair",
    "Problem",
    "Prompt",
    "Quotation",
    "RateLimited",
    "Rating",
    "Rejected",
    "Reply",
    "Request",
    "Retriever",
    "Reward",
    "RewardModel",
    "RunError",
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
    "TimedOut",
    "ToolCall",
    "Trainer",
    "TrainingJob",
    "TrainingResult",
    "Unavailable",
    "Unscorable",
    "Unscored",
    "Usage",
    "Verdict",
    "Verdicts",
    "__version__",
    "hookimpl",
    "run",
]

_MODULES = (
    *("errors", "spec", "types", "hookspecs", "templates", "replies"),
    *("expectations", "protocols", "settings", "api"),
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
