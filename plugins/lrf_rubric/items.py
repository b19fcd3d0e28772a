"""The items of a rubric, and the rating that answers to them make."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from lrf.errors import ConfigError
from lrf.prompting.expectations import Choice, Rating, YesOrNo
from lrf.settings import Settings

MAX_ITEMS, MAX_TEXT = 400, 4_000
"""The most items of a rubric, and characters of an item."""

Part = Literal["document", "evidence", "question", "reference", "answer"]
PARTS: tuple[Part, ...] = ("document", "evidence", "question", "reference", "answer")
"""What an item may see, in the order in which it is shown."""

ShortText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class Level(Settings):
    """One of several levels. ``value``: what it is worth, 0 to 1."""

    label: str = Field(min_length=1, max_length=200, description="The level's name, as the judge writes it.")
    value: float = Field(ge=0, le=1, description="What the level is worth, 0 to 1.")

    @field_validator("label")
    @classmethod
    def _can_be_written(cls, label: str) -> str:
        if "[[" in label or "]]" in label or len(label.splitlines()) > 1:
            raise ValueError("a label is one line without [[ and ]]: a judge writes it between them")
        return label


class Item(Settings):
    """A thing that an answer is asked for."""

    text: ShortText = Field(description="What is asked of the answer, as a sentence that is true or false of it.")
    name: str | None = Field(
        None, min_length=1, max_length=100, description="Its name in files; its text, if left out."
    )
    weight: float = Field(
        1.0, description="What it counts. A negative one counts against the answer where the sentence is true."
    )
    sees: tuple[Part, ...] = Field(
        ("question", "answer"),
        min_length=1,
        description="What the judge is shown: question, answer, document, evidence, reference.",
    )
    scale: Literal["yes_no", "0-10"] | tuple[Level, ...] = Field(
        "yes_no", description="How it is answered: yes_no, 0-10, or a list of levels with a value (0 to 1) each."
    )
    gate: bool = Field(False, description='Whether the answer fails as a whole ("fails all") where this is not met.')

    @field_validator("weight")
    @classmethod
    def _counts(cls, weight: float) -> float:
        if not math.isfinite(weight) or weight == 0 or abs(weight) > 1e6:
            raise ValueError("a weight is a number other than 0, at most a million")
        return weight

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "answer" not in self.sees:
            raise ValueError("`sees` has no `answer`: every item is about the answer")
        if isinstance(self.scale, tuple):
            labels = [level.label.casefold() for level in self.scale]
            if not 2 <= len(labels) <= 20 or len(set(labels)) < len(labels):
                raise ValueError("`scale` needs 2 to 20 levels with different labels")
        return self

    @property
    def title(self) -> str:
        return self.name or self.text

    @property
    def expects(self) -> Any:
        """What the judge's answer must be."""
        if isinstance(self.scale, tuple):
            return Choice(tuple(level.label for level in self.scale))
        return Rating() if self.scale == "0-10" else YesOrNo()

    def score(self, value: float | str, probabilities: Mapping[str, float] | None) -> float:
        """How far the item is met, 0 to 1: of levels with probabilities, their expectation."""
        if isinstance(self.scale, tuple):
            worth = {level.label: level.value for level in self.scale}
            if probabilities is not None:
                return sum(worth[mark[2:-2]] * p for mark, p in probabilities.items()) / sum(probabilities.values())
            return worth[str(value)]
        return float(value) / 10 if self.scale == "0-10" else float(value)


def lettered(item: Item) -> Item:
    """An item whose levels are called A, B, C …, what each is standing in the item's text.

    So are those of a row, whose words must not be options: options stand among the instructions.
    """
    if not isinstance(item.scale, tuple):
        return item
    letters = string.ascii_uppercase[: len(item.scale)]
    lines = (f"{letter}: {level.label}" for letter, level in zip(letters, item.scale, strict=True))
    scale = tuple(Level(label=letter, value=level.value) for letter, level in zip(letters, item.scale, strict=True))
    return item.model_copy(update={"text": "\n".join((item.text, *lines)), "name": item.title, "scale": scale})


class Example(Settings):
    """An answer with what to say of it, shown before the questions."""

    answer: ShortText = Field(description="The answer.")
    item: str = Field(min_length=1, description="The name (or the text) of the item that is asked about.")
    says: ShortText = Field(description="What the judge should say of it, such as: yes, since both votes are named.")


def checked(items: Sequence[Item], where: str) -> tuple[Item, ...]:
    """The items. Raises :class:`lrf.errors.ConfigError` for none, too many, and for names given twice."""
    if not items:
        raise ConfigError(f"{where}: the rubric has no items")
    if len(items) > MAX_ITEMS:
        raise ConfigError(f"{where}: the rubric has more than {MAX_ITEMS} items")
    seen: set[str] = set()
    for item in items:
        if item.title in seen:
            raise ConfigError(f"{where}: two items are named {item.title[:80]!r}; give each its own name")
        seen.add(item.title)
    return tuple(items)


def item_of(fields: Mapping[str, Any], where: str) -> Item:
    """An item of plain values. Raises :class:`lrf.errors.ConfigError` that names the field and what is allowed."""
    try:
        return Item.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the item"
        raise ConfigError(f"{where}: {field}: {first['msg']}") from None


def rating_of(items: Sequence[Item], scores: Sequence[float]) -> float:
    """The rating, 0 to 10: what was earned of what could be, what counts against the answer taken off.

    Without an item of positive weight it starts from 10, and all of them together take it to 0. A gate that is not met
    (below one half; of one with a negative weight: above) makes it 0.
    """
    for item, score in zip(items, scores, strict=True):
        if item.gate and (score < 0.5 if item.weight > 0 else score > 0.5):
            return 0.0
    earned = sum(item.weight * score for item, score in zip(items, scores, strict=True))
    possible = sum(item.weight for item in items if item.weight > 0)
    if not possible:
        return 10.0 * max(0.0, 1.0 - earned / sum(item.weight for item in items))
    return 10.0 * min(1.0, max(0.0, earned / possible))
