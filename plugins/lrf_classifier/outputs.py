"""What is known of a reward model's outputs: their labels, and which output is which rating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrf.errors import StageError
from lrf_classifier.settings import ClassifierSettings

KEY = "lrf_reward"
"""What the trainer ``reward`` wrote into the model's config.json."""


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """``name`` is the model's in errors. Scale and template are None for a model that the trainer did not make."""

    name: str
    labels: tuple[str, ...]
    zero_at: float | None = None
    ten_at: float | None = None
    prompt_template_sha256: str | None = None

    def head(self, wanted: str | None) -> str:
        """The label of the output to read. Raises :class:`lrf.errors.StageError` with those there are."""
        if wanted is None and len(self.labels) == 1:
            return self.labels[0]
        if wanted in self.labels:
            return str(wanted)
        asked = "has several outputs, so `head` must name one" if wanted is None else f"has no output {wanted!r}"
        raise StageError(f"the reward model {self.name} {asked}; it has: {', '.join(self.labels)}")

    def scale(self, settings: ClassifierSettings) -> tuple[float, float]:
        """The outputs that are ratings of 0 and of 10. Raises :class:`lrf.errors.StageError`."""
        for zero_at, ten_at in ((settings.zero_at, settings.ten_at), (self.zero_at, self.ten_at)):
            if zero_at is not None and ten_at is not None:
                return zero_at, ten_at
        raise StageError(
            f"which outputs of the reward model {self.name} are ratings of 0 and 10 isn't known (its config.json has "
            f"no {KEY}): set zero_at and ten_at, say to what it puts out for a bad and for a very good answer"
        )


def read_output_info(config: Any, name: str) -> OutputInfo:
    """What the model's configuration says. Raises :class:`lrf.errors.StageError` when it can't be used."""
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    known: Mapping[str, Any] | None = getattr(config, KEY, None)
    if known is None:
        return OutputInfo(name, labels)
    try:
        sha256 = str(known["prompt_template_sha256"])
        return OutputInfo(name, labels, float(known["zero_at"]), float(known["ten_at"]), sha256)
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(f"{name}: {KEY} in its config.json can't be used ({type(error).__name__}: {error})") from None
