"""For components that run a language model in this process: a thread that owns the model, its identity, its tokens.

Untrusted text must not be able to write a turn or an end of text, so special tokens come only from the chat template:
``<eos>`` in a document stays five characters.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from lrf.errors import JudgeMisconfiguredError, RejectedError
from lrf.text.unicode import storable
from lrf.types import JSON, Message

_MARK = "\ue000{}\ue001"  # private-use characters: no template contains them
_MARKS = re.compile("\ue000(\\d+)\ue001")


def weights_identity(model: str, revision: str | None = None) -> Mapping[str, JSON]:
    """The identity of a model's weights: hub id and revision, or a hash of the names, sizes and times of its files."""
    path = Path(model).expanduser()
    if not path.exists():
        return {"model": model, "revision": revision}
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return {"model": model, "files": hashlib.sha256(json.dumps(stats).encode()).hexdigest()}


class Limits(Protocol):
    """The settings that a :class:`LocalModel` reads."""

    @property
    def max_concurrency(self) -> int: ...

    @property
    def request_timeout_s(self) -> float: ...


S = TypeVar("S", bound=Limits)
J = TypeVar("J")
R = TypeVar("R")
Compute = Callable[[Sequence[J], Callable[[int], bool]], Sequence[R | Exception]]
"""Computes a result or an error for each job. Its second argument says whether anyone waits for job ``number``."""


class LocalModel(ABC, Generic[S, J, R]):
    """Base of judges and samplers whose model belongs to one thread, whichever event loop they are used from.

    The model is loaded for the first job and released by :meth:`aclose`. Jobs that wait are computed together.

    Parameters
    ----------
    settings: see :class:`Limits`.
    linger_s: seconds that a first job waits for others.
    enough: the number of jobs with which it no longer waits.

    A subclass implements ``_load`` and calls ``_ask`` for each job.
    """

    def __init__(self, settings: S, *, linger_s: float = 0.0, enough: int = 1) -> None:
        self._settings = settings
        self._linger_s, self._enough = linger_s, enough
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: _Jobs[J, R] = queue.SimpleQueue()

    @abstractmethod
    def _load(self) -> Compute[J, R]:
        """Load the model and return the function that computes jobs. Called in the thread; jobs get its error."""

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def aclose(self) -> None:
        """Finish the jobs that are still wanted and release the model. A later job loads it again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
        if thread is not None:
            await asyncio.to_thread(thread.join)

    async def _ask(self, job: J) -> R:
        future: Future[R] = Future()
        with self._lock:
            if self._thread is None:
                self._jobs = queue.SimpleQueue()
                name = f"lrf-{type(self).__name__}"
                self._thread = threading.Thread(target=self._work, args=(self._jobs,), name=name, daemon=True)
                self._thread.start()
            self._jobs.put((job, future))
        return await asyncio.wrap_future(future)

    def _work(self, jobs: _Jobs[J, R]) -> None:
        compute: Compute[J, R] | None = None
        while (batch := self._collect(jobs)) is not None:
            try:
                compute = compute or self._loaded()
                outcomes = compute([job for job, _ in batch], lambda number: not batch[number][1].cancelled())
            except Exception as error:  # there is no caller in this thread: the waiting jobs get it
                outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _finish(future, outcome)

    def _loaded(self) -> Compute[J, R]:
        """The loaded model. If loading fails, every job gets that error until :meth:`aclose`."""
        try:
            return self._load()
        except Exception as error:
            failure = error
            return lambda jobs, wanted: [failure] * len(jobs)

    def _collect(self, jobs: _Jobs[J, R]) -> list[tuple[J, Future[R]]] | None:
        """The jobs that wait and are still wanted, or None after the end."""
        first = jobs.get()
        if first is None:
            return None
        batch, until = [first], time.monotonic() + self._linger_s
        while True:
            left_s = 0.0 if len(batch) >= self._enough else max(0.0, until - time.monotonic())
            try:
                job = jobs.get(timeout=left_s)
            except queue.Empty:
                break
            if job is None:
                jobs.put(None)
                break
            batch.append(job)
        return [(job, future) for job, future in batch if not future.cancelled()]


_Jobs = queue.SimpleQueue[tuple[J, Future[R]] | None]


def _finish(future: Future[R], outcome: R | Exception) -> None:
    try:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        return  # the job was cancelled


class Encoder:
    """A Hugging Face tokenizer with its chat template, if it has one. ``options`` are the template's own variables.

    With a chat template a prompt becomes the user's message and the assistant's turn is opened; else the prompt
    is plain text to be continued.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, JSON] | None = None) -> None:
        self._tokenizer = tokenizer
        self._options = options or {}
        self._frame = self._parts([{"role": "user"}]) if self.chat else []
        plain, whole = self._plain("x"), self._template("x", add_special_tokens=True)
        self._start = whole[: whole.index(plain[0])] if plain and plain[0] in whole else []

    @property
    def chat(self) -> bool:
        return bool(getattr(self._tokenizer, "chat_template", None))

    def prompt(self, text: str, seed: str = "") -> list[int]:
        """Token ids of the prompt. ``seed`` is text that the reply begins with."""
        if not self.chat:
            return self._start + self._plain(text + seed)
        return self._fill(self._frame, [text]) + self.continuation(seed)

    def messages(self, turns: Sequence[Message], tools: Sequence[Mapping[str, JSON]] = ()) -> list[int]:
        """Token ids of a chat whose next turn is the assistant's. Without a chat template, a single turn is continued.

        Names and calls of tools are written by the template. Raises :class:`lrf.errors.RejectedError` if one of them
        contains a special token or the template refuses the turns, and :class:`lrf.errors.JudgeMisconfiguredError` for
        several turns without a template.
        """
        if not self.chat:
            if len(turns) == 1 and not tools:
                return self.prompt(turns[0].content)
            raise JudgeMisconfiguredError("the model has no chat template, so it can't be asked in turns")
        about = [{k: v for k, v in turn.as_row().items() if k != "content"} for turn in turns]
        said = "" if all(len(row) == 1 for row in about) else json.dumps(about, ensure_ascii=False)
        special = next((t for t in self._tokenizer.all_special_tokens if t in said), None)
        if special is not None:
            raise RejectedError(f"a call of a tool spells {special!r}, which the model would read as the end of a turn")
        try:
            parts = self._parts(about, tools)
        except Exception as error:  # a template is a program: it may raise anything
            raise RejectedError(f"the chat template refuses the turns: {error}") from error
        return self._fill(parts, [turn.content for turn in turns])

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that follows other text: without the space some tokenizers begin a text with."""
        if not text:
            return []
        anchor, both = self._plain("x"), self._plain("x" + text)
        return both[len(anchor) :] if both[: len(anchor)] == anchor else self._plain(text)

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _parts(self, roles: Sequence[Mapping[str, JSON]], tools: Sequence[Mapping[str, JSON]] = ()) -> list[str]:
        """The template's own text at even places, and at odd ones the numbers of the turns between."""
        turns = [{**role, "content": _MARK.format(n)} for n, role in enumerate(roles)]
        given = {"tools": list(tools)} if tools else {}
        written = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **given, **self._options
        )
        return _MARKS.split(written)

    def _fill(self, parts: Sequence[str], texts: Sequence[str]) -> list[int]:
        ids = []
        for place, part in enumerate(parts):
            ids += self._plain(texts[int(part)]) if place % 2 else self._template(part)
        return ids

    def _plain(self, text: str) -> list[int]:
        text = storable(text)
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)

    def _template(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer(storable(text), add_special_tokens=add_special_tokens, verbose=False).input_ids)
