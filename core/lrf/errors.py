"""Every error lrf raises, grouped by the boundary it comes from. All of them derive from :class:`LrfError`.

``exit_code`` is what the command line ends with when the error reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LrfError(Exception):
    """Base of lrf's errors. The text is made for people: what, where, what is allowed, what to do next."""

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
    """A pipeline file (or arguments) that can't be used. Carries every mistake found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class PluginError(LrfError):
    """A plugin that can't be loaded, or a component it promises and doesn't deliver."""

    exit_code = 2


class DataError(LrfError):
    """A row of the input that can't be used, with its file and line."""

    exit_code = 2


class RunError(LrfError):
    """A run directory that can't be used: locked by another process, of a newer version, damaged."""

    exit_code = 2


# --- while it runs ---------------------------------------------------------------------------------------------


class StageError(LrfError):
    """A stage failed; what was done before it is kept."""


class GateError(LrfError):
    """A count doesn't add up, or more rows are unscored than the pipeline allows."""

    exit_code = 3


class BudgetError(LrfError):
    """The next call could cross the pipeline's budget; what is left is named."""

    exit_code = 4


class RunInterruptedError(LrfError):
    """Stopped by the user; what was finished is kept and valid."""

    exit_code = 130


# --- a judge's or embedder's boundary --------------------------------------------------------------------------


class JudgeError(LrfError):
    """A call to a judge or an embedder that brought no reply.

    ``reason`` is a short stable word. ``sent`` says whether the server may have worked on the request (and bill it)
    although its reply is not known: a budget then counts the call at its worst case. It is False where the request
    never left this machine, and where the server answered that it refuses the request.
    """

    reason = "judge_error"
    sent: bool = False


class RateLimitedError(JudgeError):
    """The server asks to wait. Uses up no attempt. ``retry_after_s`` is the server's own wish, if it gave one."""

    reason = "rate_limited"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(JudgeError):
    """The server cannot be reached, is overloaded or broken (connection errors, 5xx): worth another attempt.

    ``retry_after_s`` is how long the server asks to be left alone, or None. ``sent`` (see :class:`JudgeError`) is False
    for a failed connection and a 503, True for a connection that broke after the request was sent, and for a gateway
    that lost its own server (502, 504).
    """

    reason = "judge_unavailable"

    def __init__(self, message: str, retry_after_s: float | None = None, *, sent: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.sent = sent


class TimedOutError(JudgeError):
    """No reply within the request's deadline: worth another attempt. ``sent`` is False if no connection was open yet."""

    reason = "judge_timed_out"

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class BadReplyError(JudgeError):
    """The server's answer is no usable reply (HTML, broken JSON, too large): worth another attempt."""

    reason = "judge_bad_reply"
    sent = True


class RejectedError(JudgeError):
    """This one request can't be served (too long, refused by a filter): not asked again."""

    reason = "judge_rejected"


class ContextTooSmallError(RejectedError):
    """This one request is longer than the model takes."""

    reason = "context_too_small"


class JudgeMisconfiguredError(JudgeError):
    """No request can succeed (wrong key, unknown model, account in arrears): stops the run."""

    reason = "judge_misconfigured"
    exit_code = 2


# --- what a dimension may raise --------------------------------------------------------------------------------


class UnscorableError(LrfError):
    """Raised inside a dimension: this candidate can't be rated. It becomes data (:class:`lrf.types.Unscored`)."""

    def __init__(self, reason: str, detail: str = "", *, transient: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.transient = transient


class ParseError(LrfError):
    """A reply that doesn't hold what was asked for. ``reason`` is a short stable word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
