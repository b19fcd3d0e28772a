"""Whether a server refuses one request, or whatever it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from lrf.errors import ContextTooSmallError, JudgeMisconfiguredError, RejectedError

FIRST_SAMPLES = 5
"""A server that has served nothing yet and refuses requests of so many samples stops the run."""

FIRST_SAMPLES_OF_SETUP = 2
"""Likewise for refusals that most likely concern all requests (an unknown model, a path, a parameter, a key)."""

FIRST_SAMPLES_TOO_LONG = 20
"""Likewise for requests that are longer than the model takes: data may begin with its longest documents."""

LATER_SAMPLES = 20
"""Samples in a row that a server refuses after it has served others, until the run is stopped."""

Refusal = RejectedError | JudgeMisconfiguredError


@dataclass(slots=True)
class Refusals:
    """The refusals of one server since it last served a request.

    A refused request is its sample's failure. The run is stopped once the requests of :data:`FIRST_SAMPLES` different
    samples were refused and none was served. While a call is in flight that was sent before the first refusal, it
    takes twice as many: what is slow may yet be served. After a served request it takes :data:`LATER_SAMPLES` in a
    row; requests that are too long then stop nothing, since documents may be sorted by their length.

    Parameters
    ----------
    name: the server as errors call it: "judges.main".
    """

    name: str
    served_any: bool = False
    _samples: set[str] = field(default_factory=set)
    _since: float | None = None

    def served(self) -> None:
        """A request was served."""
        self.served_any = True
        self._samples.clear()
        self._since = None

    def refused(self, error: Refusal, sample: str, now: float, oldest: float | None) -> JudgeMisconfiguredError | None:
        """Take in a refusal. Returns the error that stops the run, if it has to be stopped.

        ``oldest``: when the oldest call in flight was sent, None without one; a time like ``now``.
        """
        self._samples.add(sample)
        self._since = now if self._since is None else self._since
        limit = self._limit(error)
        if limit is None or len(self._samples) < limit:
            return None
        if oldest is not None and oldest < self._since and len(self._samples) < 2 * max(limit, FIRST_SAMPLES):
            return None
        since = " since it last served one" if self.served_any else ""
        hint = error.hint if isinstance(error, RejectedError) else ""
        if isinstance(error, ContextTooSmallError):
            hint = "serve the model with a longer context, or set `context_window`: what is longer is then not sent"
        return JudgeMisconfiguredError(
            f"{self.name} refuses all requests (of {len(self._samples)} samples{since}), the last with: {error}"
            f"{'; ' + hint if hint else ''}. What is done is kept: mend it and run the same command again"
        )

    def _limit(self, error: Refusal) -> int | None:
        if isinstance(error, ContextTooSmallError):
            return None if self.served_any else FIRST_SAMPLES_TOO_LONG
        if self.served_any:
            return LATER_SAMPLES
        return FIRST_SAMPLES_OF_SETUP if isinstance(error, JudgeMisconfiguredError) else FIRST_SAMPLES
