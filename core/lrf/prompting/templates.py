"""Prompt templates: text with ``<<field>>`` marks, filled in one pass into trusted and untrusted segments.

A field's value is never searched for marks, so a question that contains ``<<answer>>`` stays a question.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lrf.errors import ConfigError

__all__ = [
    "Prompt",
    "Segment",
    "Template",
]

LONG_BEGINNING = 2_000
"""Characters from which on it is worth something that a server computes what prompts share once."""

_FIELD = re.compile(r"<<([A-Za-z_][A-Za-z0-9_]*)>>")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. ``trusted`` is True for the template's own words, False for what filled a field.

    ``name`` is the field's, where there is one. It is for judges that read fields and not prompts; prompts that
    differ in nothing else are equal.
    """

    text: str
    trusted: bool = True
    name: str | None = field(default=None, compare=False)


Prompt = tuple[Segment, ...]


def prompt_text(prompt: Prompt) -> str:
    """The prompt as the judge reads it: its segments, joined without anything between them."""
    return "".join(s.text for s in prompt)


def shared_beginning(prompt: Prompt, *, whole: bool = False) -> int | None:
    """A hash, good within this process, of what stands before a prompt's last field; None if it holds little material.

    Prompts about one sample share it when the last field is what tells them apart, as an answer or a statement does.
    ``whole``: the prompt is asked several times as it is, so all of it counts.
    """
    end = len(prompt) if whole else max((i for i, s in enumerate(prompt) if not s.trusted), default=0)
    if sum(len(s.text) for s in prompt[:end] if not s.trusted) < LONG_BEGINNING:
        return None
    return hash(tuple(s.text for s in prompt[:end]))


def untrusted_text(prompt: Prompt) -> str:
    """All that filled a prompt's fields: what a judge may quote."""
    return "\n".join(s.text for s in prompt if not s.trusted)


@dataclass(frozen=True)
class Template:
    """A parsed template.

    Parameters
    ----------
    text: the template. ``<<name>>`` stands for a field; everything else is literal.
    fields: the fields it may use. Another one is an error (:class:`lrf.errors.ConfigError`) that names them.
    name: what errors call the template, usually its file.
    """

    text: str
    fields: frozenset[str]
    name: str = "template"

    def __init__(self, text: str, fields: Iterable[str], name: str = "template") -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "fields", frozenset(fields))
        object.__setattr__(self, "name", name)
        if unknown := sorted(self.used - self.fields):
            allowed = ", ".join(f"<<{f}>>" for f in sorted(self.fields))
            raise ConfigError(f"{name}: unknown field <<{unknown[0]}>>; allowed: {allowed}")

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        return tuple(_FIELD.split(self.text))  # literal, field, literal, field, …, literal

    @property
    def used(self) -> frozenset[str]:
        """The fields that the template really uses."""
        return frozenset(_FIELD.findall(self.text))

    @property
    def sha256(self) -> str:
        """Hash of the template's text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def fill(self, values: Mapping[str, str]) -> Prompt:
        """The prompt with every field filled. Empty pieces are left out. KeyError when a value is missing."""
        segments = []
        for i, part in enumerate(self._parts):
            piece = Segment(values[part], trusted=False, name=part) if i % 2 else Segment(part)
            if piece.text:
                segments.append(piece)
        return tuple(segments)
