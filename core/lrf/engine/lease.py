"""What calls in flight may take, noted in the journal before they are sent, so that a budget also outlives a kill.

A process that is killed can't say which of its calls the server worked on. So where there is a budget, a row of the
journal says how much may be in flight. It is raised before more is sent, in steps, and removed when all calls have
ended. A row that is still there when the run continues counts as paid.

A server that continues with calls that nobody waits for (a batch API) has a row for each: the run may ask other
questions first when it continues, and those of before are paid for all the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from lrf.engine.worst_case import WorstCase
from lrf.store.journal import Journal

STEP = 8
"""Calls by which a note is raised."""
NOTHING = WorstCase(0, 0, 0)
KILLED = "(killed)"
"""The dimension under which calls count that were in flight when the run was killed."""


@dataclass(slots=True)
class Lease:
    """The note on one server's calls.

    Parameters
    ----------
    identity: the server's, as the journal has it.
    dimension: under which the calls count after a kill.
    """

    journal: Journal
    identity: str
    dimension: str = KILLED
    _open: WorstCase = NOTHING
    _noted: WorstCase = NOTHING
    _row: int | None = None
    _raising: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def cover(self, worst: WorstCase) -> None:
        """Return once the journal says that this may be in flight, too."""
        self._open = WorstCase(*map(sum, zip(self._open, worst, strict=True)))
        try:
            while not self._is_covered():
                async with self._raising:
                    if not self._is_covered():
                        await self._raise()
        except BaseException:
            self.give_back(worst)
            raise

    def give_back(self, worst: WorstCase) -> None:
        """The call has ended, and what it took is committed."""
        self._open = WorstCase(*(all_ - one for all_, one in zip(self._open, worst, strict=True)))

    async def release(self) -> None:
        """All calls have ended: remove the note."""
        row, self._row, self._noted = self._row, None, NOTHING
        if row is not None:
            await self.journal.forget_in_flight(row)

    def _is_covered(self) -> bool:
        return all(one <= noted for one, noted in zip(self._open, self._noted, strict=True))

    async def _raise(self) -> None:
        calls, prompt, reply = self._open
        noted = WorstCase(-(-calls // STEP) * STEP, prompt + prompt // 4, reply + reply // 4)
        noted = WorstCase(*map(max, zip(noted, self._noted, strict=True)))
        self._row = await self.journal.note_in_flight(
            self._row, self.identity, dimension=self.dimension, calls=noted.calls, worst=(noted.prompt, noted.reply)
        )
        self._noted = noted


class InFlightNote(NamedTuple):
    """The note on a call: its row in the journal, and the most that the call can take."""

    row: int
    worst: WorstCase


@dataclass(slots=True)
class KeptCalls:
    """The notes on calls that one server continues with when nobody waits for them, by the keys of their requests."""

    journal: Journal
    identity: str
    _left: dict[str, InFlightNote] | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def claim(self, key: str) -> InFlightNote | None:
        """The note on this request that was left, which counts against the budget; its call continues with it."""
        async with self._reading:
            if self._left is None:
                noted = await self.journal.noted_requests(self.identity)
                self._left = {name: InFlightNote(row, WorstCase(*worst)) for name, (row, *worst) in noted.items()}
        return self._left.pop(key, None)

    async def note(self, key: str, dimension: str, worst: WorstCase) -> InFlightNote:
        """Return once the journal says that the call may be in flight."""
        calls, *tokens = worst
        most = (tokens[0], tokens[1])
        row = await self.journal.note_in_flight(
            None, self.identity, dimension=dimension, calls=calls, worst=most, key=key
        )
        return InFlightNote(row, worst)

    def leave(self, key: str, note: InFlightNote) -> None:
        """Nobody waits for the call any more, and the server continues with it."""
        if self._left is not None:
            self._left[key] = note
