"""Whether what a judge is paid for can be read: a judge whose replies never can be read is noticed early."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from lrf.errors import StageError
from lrf.text.excerpt import excerpt

FIRST = 20
"""Paid questions of a kind (ratings, verdicts, …) that a judge is watched for in a run."""

LEAST_SHARE = 0.1
"""The run is stopped if fewer of the first :data:`FIRST` could be read, each after all of its attempts."""

SHOWN = 3
"""Replies that the error shows."""


@dataclass(slots=True)
class Readability:
    """Counts the first questions of each kind that a judge was paid for, and those whose answer could be read.

    Questions that the journal answers don't count, nor do those that a content filter held back.

    Parameters
    ----------
    name: the judge as errors call it: "judges.main".
    """

    name: str
    _kinds: dict[str, _Watched] = field(default_factory=dict)

    def read(self, kind: str) -> None:
        """An answer of this kind could be read."""
        watched = self._kinds.setdefault(kind, _Watched())
        if watched.questions < FIRST:
            watched.questions += 1
            watched.read += 1

    def unread(self, kind: str, detail: str, reply: str) -> StageError | None:
        """No reply to a question of this kind could be read. Returns the error that stops the run, if there is one."""
        watched = self._kinds.setdefault(kind, _Watched())
        if watched.questions >= FIRST and not watched.hopeless:
            return None
        watched.questions += 1
        watched.last.append((detail, excerpt(reply)))
        return self._error(kind, watched) if watched.hopeless else None

    def reset(self) -> None:
        """Watch anew."""
        self._kinds.clear()

    def _error(self, kind: str, watched: _Watched) -> StageError:
        shown = "".join(f'\n  "{reply}" ({detail})' for detail, reply in watched.last)
        return StageError(
            f"{self.name}: of the first {watched.questions} paid questions for a {kind}, {watched.read} could be read, "
            f"each after its last attempt; going on would pay in vain. The last replies:{shown}\n"
            "What helps: a judge that follows the format; `rating: json` (with `structured` at the judge) where it can "
            "be held to a schema; a prompt of your own that says the format in other words. Then run again; if only "
            "the server was changed, `lrf rescore PIPELINE --failed` asks again what could not be read"
        )


@dataclass(slots=True)
class _Watched:
    """One kind of question."""

    questions: int = 0
    read: int = 0
    last: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=SHOWN))

    @property
    def hopeless(self) -> bool:
        return self.questions >= FIRST and self.read < LEAST_SHARE * FIRST
