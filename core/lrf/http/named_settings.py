"""Which setting may cause a refusal, by the server's words."""

from __future__ import annotations

import re
from collections.abc import Collection

_NAMED = (
    (r"batch|too many inputs|(list|array) of inputs|input.{0,20}(items|array|list)", ("batch_size",)),
    (r"max_(completion_|new_|output_)?tokens", ("max_tokens_field", "reasoning_tokens")),
    (r"temperature|top_p", ("temperature",)),
    (r"logprobs", ("logprobs", "expected")),
    (r"response_format|json_schema|json[ _]mode|structured|grammar", ("structured",)),
    (r"\bseed\b", ("seed",)),
    (r"dimension", ("dimensions",)),
    (r"thinking|reasoning", ("thinking", "reasoning_effort", "extra_body")),
    (r"\bmodel\b.{0,60}(not|unknown|exist|invalid|support)|(unknown|invalid|no such|unsupported) model", ("model",)),
    (r"parameter|unsupported|unrecogni[sz]ed|unknown|not permitted|extra|argument|field|参数", ("extra_body",)),
)


def settings_named(words: str, settings: Collection[str]) -> str:
    """The settings, of those that there are, that could send what a refusal complains of; as text for a message."""
    words = words[:4000].lower()
    named = [name for pattern, names in _NAMED if re.search(pattern, words) for name in names if name in settings]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(named)) or "`model`, `base_url` and the other settings"
