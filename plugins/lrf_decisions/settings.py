"""Settings of the judges ``decisions`` and ``systemone``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lrf.http.settings import BaseUrl, ContextWindow, EndpointSettings, EnvName
from lrf.types import JSON

_SCORE_LEVELS = (
    "Most levels of a score that the server takes. A rating has eleven; with fewer levels here it is asked as a choice "
    "among eleven values."
)


class DecisionServerSettings(EndpointSettings):
    """Settings of both judges."""

    not_identity: ClassVar[frozenset[str]] = frozenset(
        {"context_window", "max_questions", "max_choices", "letters", "score_levels", "extra_body"}
    )

    max_questions: int = Field(
        default=400, ge=2, description="Most questions in a request; further ones go into another request."
    )
    max_choices: int = Field(
        default=255, ge=2, le=255, description="Most options of a choice that the server takes (Fireworks: 208)."
    )
    letters: bool = Field(
        default=False,
        description="Options are sent as A, B, C, with their words as descriptions: for servers that want each option "
        "to be a single token (SGLang with a chat model).",
    )
    score_levels: int = Field(default=10, ge=2, description=_SCORE_LEVELS)
    context_window: ContextWindow = None
    extra_body: dict[str, JSON] = Field(default_factory=dict, description="More fields of every request.")

    def identity_changes(self) -> dict[str, JSON]:
        """The settings that replies depend on and that aren't the default ones: an identity is in every reply's row."""
        return self.model_dump(mode="json", include={"letters", "score_levels", "extra_body"}, exclude_defaults=True)


class DecisionsSettings(DecisionServerSettings):
    """A decision model behind OpenAI's Decisions API, or a server that speaks it."""

    base_url: BaseUrl = Field(
        default="https://api.openai.com/v1", description="Address of the API, up to and without /decisions."
    )
    api_key_env: EnvName | None = Field(
        default="OPENAI_API_KEY", description="Environment variable that holds the key. null: the server needs none."
    )
    score_levels: int = Field(default=255, ge=2, description=_SCORE_LEVELS)


class SystemOneSettings(DecisionServerSettings):
    """A decision model behind a System One API."""

    base_url: BaseUrl = Field(description="Address of the API, up to and without /systemone (or /v1/systemone).")
    api_key_env: EnvName | None = Field(
        default="SYSTEMONE_API_KEY", description="Environment variable that holds the key. null: the server needs none."
    )
