"""A clause of a statement laid beside the words of the evidence that it is nearest to, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein, MatchingBlock

from lrf_overlap.lexicon import (
    MORE_SURNAMES,
    SURNAMES,
    TITLES,
    ZH_ADVERBS,
    ZH_ALIKE,
    ZH_COMMON,
    ZH_DENIERS,
    ZH_NEGATION,
    ZH_STOP,
)
from lrf_overlap.opposites import ZH_SIDES, Signs, opposed
from lrf_overlap.quantities import quantities_of
from lrf_overlap.quantity import Quantity
from lrf_overlap.splitting import pieces_in
from lrf_overlap.words import word_of

BREAK = ","
"""The piece that stands for the end of a clause."""
_MARGIN = 3
"""Pieces beside the nearest part of the evidence that are looked at, too."""
_LONGEST = 120
"""Pieces of a sentence that are compared."""
_AS_NEAR = 0.97
"""The share of what the nearest part has from which on another one is as near."""


class Piece(NamedTuple):
    """A Chinese character, a word, a quantity or the end of a clause.

    ``key``: equal for what says the same. ``kind``: "han", "word", "name", "number" or "break".
    """

    key: str
    kind: str
    content: bool
    negation: bool
    signs: Signs = ()
    said: tuple[Quantity, ...] = ()


class Difference(NamedTuple):
    """What a statement has (``mine``) where the evidence has something else (``theirs``), between what both have.

    ``left`` and ``right``: the pieces with content that both have next to it. ``surname``: whether a Chinese one stands
    before it.
    """

    mine: Sequence[Piece]
    theirs: Sequence[Piece]
    left: float
    right: float
    surname: bool = False


class Aligned(NamedTuple):
    """``known``: the share of the clause's content that the evidence has, half of it where it is not in this part.

    ``differences`` are in order. ``denying``: whether both have a negation, wherever it stands.
    """

    known: float
    differences: tuple[Difference, ...]
    denying: bool


@lru_cache(maxsize=4096)
def pieces_of(sentence: str) -> tuple[Piece, ...]:
    """The pieces of a sentence; articles and marks that end no clause are left out."""
    found: list[Piece] = []
    at = 0
    for start, end, said in quantities_of(sentence):
        found += _pieces(sentence, at, start)
        found.append(Piece(f"#{said[0].kind}{said[0].value:g}", "number", True, False, said=said))
        at = end
    found += _pieces(sentence, at, len(sentence))
    return tuple(found[:_LONGEST])


def clauses_of(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """The pieces between breaks."""
    start = 0
    for at, piece in enumerate([*pieces, _BREAK]):
        if piece.kind == "break":
            if at > start:
                yield pieces[start:at]
            start = at + 1


_BREAK = Piece(BREAK, "break", False, False)
_COLON = Piece("为", "han", False, False)


def _pieces(text: str, start: int, end: int) -> Iterator[Piece]:
    for match in pieces_in(text, start, end):
        kind = match.lastgroup
        if kind == "word":
            if (piece := _word_piece(match[0])) is not None:
                yield piece
        elif kind == "han":
            run = match[0]
            negated = {m.start() for m in ZH_NEGATION.finditer(run)}
            for at, c in enumerate(run):
                if c not in "的了着地得":
                    yield _han_piece(c, at in negated)
        elif match[0] in ":：":
            yield _COLON
        elif match[0] not in "()（）、":
            yield _BREAK


@lru_cache(maxsize=16384)
def _word_piece(form: str) -> Piece | None:
    word = word_of(form)
    if word.lower in ("a", "an", "the"):
        return None
    kind = "name" if (form[0].isupper() or word.coded) and not word.empty else "word"
    return Piece(word.key, kind, not word.empty, word.negation, word.opposites)


@lru_cache(maxsize=16384)
def _han_piece(c: str, negated: bool) -> Piece:
    return Piece(ZH_ALIKE.get(c, c), "han", c not in ZH_STOP, negated, ZH_SIDES.get(c, ()))


def aligned(clause: Sequence[Piece], theirs: Sequence[Piece], least: float) -> Aligned | None:
    """A clause beside the part of a sentence that it is nearest to; None if less than ``least`` of it is there."""
    ours = _keys(clause, theirs)
    keys = [piece.key for piece in theirs]
    before = [0, *accumulate(piece.content for piece in clause)]
    content = max(1, before[-1])
    present = set(keys)
    anywhere = sum(piece.content for piece, key in zip(clause, ours, strict=True) if key in present)
    if anywhere < least * content:
        return None
    low, high = 0, len(keys)
    if len(keys) > len(ours) and (found := fuzz.partial_ratio_alignment(ours, keys)) is not None:
        margin = max(_MARGIN, len(ours) // 2)
        low, high = max(0, found.dest_start - margin), min(len(keys), found.dest_end + margin)
    blocks = Levenshtein.opcodes(ours, keys[low:high]).as_matching_blocks()
    together = sum(before[b.a + b.size] - before[b.a] for b in blocks)
    nearest = theirs[low:high]
    denying = any(piece.negation and piece.kind == "word" for piece in clause) and any(
        piece.negation for piece in _clause_of(nearest, blocks)
    )
    return Aligned((together + anywhere) / 2 / content, tuple(_differences(clause, nearest, blocks, before)), denying)


def _clause_of(theirs: Sequence[Piece], blocks: Sequence[MatchingBlock]) -> Sequence[Piece]:
    """What both have, to the ends of its clauses."""
    start, end = blocks[0].b, max((b.b + b.size for b in blocks if b.size), default=0)
    while start and theirs[start - 1].kind != "break":
        start -= 1
    while end < len(theirs) and theirs[end].kind != "break":
        end += 1
    return theirs[start:end]


def _keys(clause: Sequence[Piece], theirs: Sequence[Piece]) -> list[str]:
    """The keys of a clause; a quantity that the other side says, too, has the other side's key."""
    numbers = [piece for piece in theirs if piece.kind == "number"]
    if not numbers:
        return [piece.key for piece in clause]
    return [
        next((o.key for o in numbers if _says(piece, o)), piece.key) if piece.kind == "number" else piece.key
        for piece in clause
    ]


def _says(piece: Piece, other: Piece) -> bool:
    return any(a.said_by(b) for a in piece.said[-1:] for b in other.said)


def _differences(
    clause: Sequence[Piece], theirs: Sequence[Piece], blocks: Sequence[MatchingBlock], before: Sequence[int]
) -> Iterator[Difference]:
    """What is between the matching blocks, of which the last one is empty. ``before``: the content before a place."""
    at = there = left = 0
    for a, b, size in blocks:
        right = before[a + size] - before[a]
        if a > at or b > there:
            surname = a - at == b - there == 1 and any(p.key in SURNAMES for p in clause[max(0, at - 2) : at])
            for difference in _parted(clause[at:a], theirs[there:b], left, right, first=at == 0, last=size == 0):
                yield difference._replace(surname=True) if surname else difference
        at, there, left = a + size, b + size, right


def _parted(
    mine: Sequence[Piece], theirs: Sequence[Piece], left: int, right: int, *, first: bool, last: bool
) -> Iterator[Difference]:
    """The difference; where the evidence ends a clause, or the statement does, that before the end and that after."""
    ends = [at for at, piece in enumerate(theirs) if piece.kind == "break"]
    if not (first or last or ends):
        yield Difference(mine, theirs, left, right)
        return
    if left:
        before = theirs[: ends[0]] if ends else theirs
        yield Difference(mine, before[: len(mine) + 2], left, 0.5 * (last and len(before) <= len(mine)))
    if right:
        after = theirs[ends[-1] + 1 :] if ends else theirs
        yield Difference(mine, after[-len(mine) - 2 :], 0.5 * (first and len(after) <= len(mine)), right)


Wrong = tuple[float, float, float, float]
NOTHING: Wrong = (0.0, 0.0, 0.0, 0.0)


def wrong(difference: Difference, text: str, *, denying: bool) -> Wrong:
    """How surely it is another name, another number, the opposite, or what ``text``, the evidence, has elsewhere.

    ``denying``: whether both sides have a negation, so that one that only moved is no difference.
    """
    near = difference.left + difference.right
    if not difference.left or not difference.right:
        near -= 1
    if near < 2:
        return NOTHING
    strength = min(1.0, near / 4)
    return (
        strength * _renamed(difference),
        strength * _renumbered(difference.mine, difference.theirs),
        strength * _opposed(difference, denying=denying),
        strength * _swapped(difference, text),
    )


def _swapped(difference: Difference, text: str) -> float:
    """Whether the evidence has these characters, two at least, but in another place."""
    mine, theirs = difference.mine, difference.theirs
    if not (2 <= len(mine) <= 5 and 1 <= len(theirs) <= 6 and difference.left >= 1 and difference.right):
        return 0.0
    if not all(p.kind == "han" and p.content for p in mine) or not any(p.content for p in theirs):
        return 0.0
    if "".join(p.key for p in mine) not in text:
        return 0.0
    return 1.0 - sum(p.key in ZH_COMMON for p in mine) / len(mine) / 2


def _renumbered(mine: Sequence[Piece], theirs: Sequence[Piece]) -> float:
    ours, others = ([p for p in some if p.kind == "number"] for some in (mine, theirs))
    if len(ours) != 1 or len(others) != 1:
        return 0.0
    return float(any(a.kind == b.kind and not a.said_by(b) for a in ours[0].said for b in others[0].said))


def _renamed(difference: Difference) -> float:
    ours, others = (
        {p.key for p in some if p.kind == "name" and p.key not in TITLES}
        for some in (difference.mine, difference.theirs)
    )
    if ours and others:
        return float(bool(ours - others and others - ours))
    if difference.surname and difference.left >= 2 and difference.mine[0].content and difference.theirs[0].content:
        return float(difference.mine[0].kind == difference.theirs[0].kind == "han")
    mine, theirs = _nearest(difference, difference.mine), _nearest(difference, difference.theirs)
    both = difference.left and difference.right
    if not both:  # where it ends on that side isn't known
        theirs = theirs[: len(mine)] if difference.left else theirs[-len(mine) :]
    if not mine or not theirs or max(len(mine), len(theirs)) > 5 or abs(len(mine) - len(theirs)) > 1:
        return 0.0
    if any(_common(p) for p in (*mine, *theirs)) and not (_person(mine) and _person(theirs)):
        return 0.0
    whole = sum(p.content for p in difference.mine) == len(mine)
    return (1.0 if both else 0.6) * (1.0 if whole else 0.6)


def _person(pieces: Sequence[Piece]) -> bool:
    return 2 <= len(pieces) <= 3 and pieces[0].key in SURNAMES + MORE_SURNAMES


def _nearest(difference: Difference, pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The Chinese characters that may be a name next to what both have: without common ones at the ends."""
    if any(p.kind not in ("han", "name") for p in pieces):
        return ()
    start, end = 0, len(pieces)
    while start < end and _common(pieces[start]):
        start += 1
    while start < end and _common(pieces[end - 1]):
        end -= 1
    if not difference.left:
        start = max([start, *(n + 1 for n in range(start, end) if _common(pieces[n]))])
    if not difference.right:
        end = min([end, *(n for n in range(start, end) if _common(pieces[n]))])
    return pieces[start:end]


def _common(piece: Piece) -> bool:
    return not piece.content or piece.key in ZH_COMMON


def _opposed(difference: Difference, *, denying: bool) -> float:
    mine, theirs = difference.mine, difference.theirs
    if abs(len(theirs) - len(mine)) > 6:
        return 0.0
    turned = _turned(mine, theirs)
    negated = not denying and sum(p.negation for p in (*mine, *theirs)) % 2 == 1
    if negated and not (difference.right >= 1 and (_denies_next(mine) or _denies_next(theirs))):
        return 0.0
    if negated and any(ZH_DENIERS.search("".join(p.key for p in some)) for some in (mine, theirs)):
        return 0.0
    return float(turned != negated)


def _denies_next(pieces: Sequence[Piece]) -> bool:
    """Whether a negation at their end denies what follows: none does in "without interest"."""
    for piece in reversed(pieces):
        if piece.negation:
            return True
        if piece.content and piece.key not in ZH_ADVERBS:
            return False
    return False


def _turned(mine: Sequence[Piece], theirs: Sequence[Piece]) -> bool:
    """Whether a word on one side is the opposite of one on the other."""
    ours, others = ({sign for piece in some for sign in piece.signs} for some in (mine, theirs))
    clear = [[(pair, side) for pair, side in piece.signs if (pair, -side) not in ours] for piece in mine]
    return any(opposed(signs, others) for signs in clear if signs)


def differences(
    pieces: Sequence[Piece], candidates: Sequence[Sequence[Piece]], text: str, *, least: float = 0.3
) -> Wrong:
    """What :func:`wrong` says of the worst clause, each beside the part of the evidence that has most of it."""
    worst = NOTHING
    for clause in clauses_of(pieces):
        if len(clause) < 3:
            continue
        found: list[Aligned] = []
        most = 0.0
        for theirs in candidates:
            part = aligned(clause, theirs, _AS_NEAR * max(most, least))
            if part is not None:
                found.append(part)
                most = max(most, part.known)
        if most < least:
            continue
        near = [
            tuple(map(max, zip(NOTHING, *(wrong(d, text, denying=a.denying) for d in a.differences), strict=True)))
            for a in found
            if a.known >= _AS_NEAR * most
        ]
        worst = tuple(map(max, zip(worst, map(min, zip(*near, strict=True)), strict=True)))
    return worst
