"""Every error that lrf raises, and :class:`lrf.reasons.Reason`, which some of them carry.

The tree, grouped by the boundary that an error comes from. The number is ``exit_code``, which the command line ends
with when the error reaches it (1 where the tree shows none)::

    LrfError
    ├── ConfigError              2    a pipeline file or an argument is wrong
    ├── PluginError              2    a plugin or a component can't be loaded
    ├── DataError                2    a row or a file of the input can't be used
    ├── RunError                 2    the run directory can't be used
    │   └── DamagedJournalError  2    what the journal keeps was changed after it was written
    ├── StageError                    a stage failed
    │   └── JudgeSilentError          a server has served nothing for long
    ├── GateError                3    a count doesn't add up, or too much is unscored
    ├── BudgetError              4    the next call could cross the budget
    ├── RunInterruptedError    130    the user stopped the run
    ├── JudgeError                    a call to a judge, sampler or embedder brought no reply
    │   ├── RateLimitedError          waits, for as long as the server says
    │   ├── UnavailableError          transient
    │   ├── TimedOutError             transient
    │   ├── BadReplyError             transient
    │   ├── RejectedError             refused; fatal if the server refuses all that it is sent
    │   │   └── ContextTooSmallError  likewise
    │   └── JudgeMisconfiguredError 2 fatal: no request can succeed
    ├── UnscorableError               final for this candidate, unless it is raised with ``transient=True``
    └── ParseError                    the reply doesn't hold what was asked for; the judge is asked again

*Transient*: the same call may succeed later. It is tried a few times; then the candidate is unscored, and a later run
of the same command asks again. *Refused*: it isn't sent again in this run; a later run of the same command asks again,
since the server may have been mended. *Final*: the candidate is unscored with a :class:`Reason`, and stays so.
*Fatal*: the run stops; what was finished is kept. Every error outside the branch of :class:`JudgeError` that isn't an
:class:`UnscorableError` or a :class:`ParseError` is fatal too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrf.reasons import Reason

if TYPE_CHECKING:
    from lrf.prompting.requests import Usage

__all__ = [
    "BadReplyError",
    "BudgetError",
    "ConfigError",
    "DamagedJournalError",
    "DataError",
    "GateError",
    "JudgeError",
    "JudgeMisconfiguredError",
    "LrfError",
    "ParseError",
    "PluginError",
    "Problem",
    "RateLimitedError",
    "Reason",
    "RejectedError",
    "RunError",
    "RunInterruptedError",
    "StageError",
    "TimedOutError",
    "UnavailableError",
    "UnscorableError",
]


class LrfError(Exception):
    """Base of lrf's errors. The text is for people: what is wrong, where, what is allowed, what to do next."""

    exit_code = 1


# --- before any work: configuration, plugins, data -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a pipeline file. ``path`` is dotted (``judges.main.temprature``), ``line`` starts at 1."""

    message: str
    path: str = ""
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(p) for p in (self.file, self.line) if p is not None)
        return ": ".join(p for p in (where, self.path, self.message) if p)


class ConfigError(LrfError):
    """A pipeline file (or arguments) that can't be used. ``problems`` has every mistake, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class PluginError(LrfError):
    """A plugin that can't be loaded, or a component that it registers and that isn't there."""

    exit_code = 2


class DataError(LrfError):
    """A row of the input, or a whole file, that can't be used. The text names file and line."""

    exit_code = 2


class RunError(LrfError):
    """A run directory that can't be used: locked by another process, of a newer version, damaged."""

    exit_code = 2


class DamagedJournalError(RunError):
    """Replies, vectors or rows of a journal were changed after they were written: their checksums differ.

    They were not used and have been taken out; the same command asks for them again.
    """


# --- while it runs ---------------------------------------------------------------------------------------------


class StageError(LrfError):
    """A stage failed; what was done before it is kept."""


class JudgeSilentError(StageError):
    """A judge, sampler or embedder was called for long and has served nothing. It may be back later."""


class GateError(LrfError):
    """A count doesn't add up, or more candidates are unscored than the pipeline's ``max_unscored``."""

    exit_code = 3


class BudgetError(LrfError):
    """The next call could cross the pipeline's budget. The text says what is left."""

    exit_code = 4


class RunInterruptedError(LrfError):
    """Stopped by the user; what was finished is kept and valid."""

    exit_code = 130


# --- a judge's or embedder's boundary --------------------------------------------------------------------------


class JudgeError(LrfError):
    """A call to a judge, sampler or embedder that brought no reply.

    ``reason`` is a :class:`Reason`, or a word of a plugin. ``sent`` says whether the server may have worked on the
    request (and bill it) although its reply is not known: a budget then counts the call at its worst case. It is False
    where the request never left this machine, and where the server answered that it refuses the request. ``usage`` is
    what the server reported for a call whose reply can't be used; it then counts instead of the worst case.
    """

    reason: str = Reason.JUDGE_ERROR
    sent: bool = False
    usage: Usage | None = None


class RateLimitedError(JudgeError):
    """The server asks to wait, ``retry_after_s`` seconds if it says so. It isn't counted as an attempt."""

    reason = Reason.RATE_LIMITED

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(JudgeError):
    """The server can't be reached, is overloaded or broken (connection errors, 5xx). Transient.

    ``retry_after_s`` is how long the server asks to be left alone, or None. ``sent`` (see :class:`JudgeError`) is False
    for a failed connection and a 503, True for a connection that broke after the request was sent, and for a 500 or a
    gateway that lost its own server (502, 504).
    """

    reason = Reason.JUDGE_UNAVAILABLE

    def __init__(self, message: str, retry_after_s: float | None = None, *, sent: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.sent = sent


class TimedOutError(JudgeError):
    """No reply within the request's deadline. Transient. ``sent`` is False if nothing was sent yet."""

    reason = Reason.JUDGE_TIMED_OUT

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class BadReplyError(JudgeError):
    """The server answered with something that is not a reply (HTML, broken JSON, too large). Transient."""

    reason = Reason.JUDGE_BAD_REPLY
    sent = True


class RejectedError(JudgeError):
    """The server refuses this request. It isn't sent again, and the candidate is unscored.

    A server that refuses whatever it is sent stops the run (:mod:`lrf.engine.refusals`); ``hint`` is then what the user
    can do about it.
    """

    reason = Reason.JUDGE_REJECTED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ContextTooSmallError(RejectedError):
    """This one request is longer than the model's context. Final."""

    reason = Reason.CONTEXT_TOO_SMALL


class JudgeMisconfiguredError(JudgeError):
    """No request can succeed (wrong key, unknown model, account in arrears). Fatal: stops the run.

    Unless ``certain``, it counts as a :class:`RejectedError` at a server that has served other requests before.
    """

    reason = Reason.JUDGE_MISCONFIGURED
    exit_code = 2

    def __init__(self, message: str, *, certain: bool = True) -> None:
        super().__init__(message)
        self.certain = certain


# --- what a dimension may raise --------------------------------------------------------------------------------


class UnscorableError(LrfError):
    """This candidate can't be rated. Raised inside a dimension; it becomes data (:class:`lrf.types.Unscored`).

    ``reason``: a :class:`Reason`, or a short stable word of a plugin. ``detail``: a sentence for people.
    ``transient``: the server is in trouble; a later run of the same command asks again.
    ``refused``: the server refused this one request without billing it. A later run asks again, too, but another
    request, or another judge, may well be served now.
    """

    def __init__(self, reason: str, detail: str = "", *, transient: bool = False, refused: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.transient = transient
        self.refused = refused


class ParseError(LrfError):
    """A reply that doesn't contain what was asked for. ``reason`` and ``detail`` as in :class:`UnscorableError`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
