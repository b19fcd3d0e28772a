"""A sentence as the features read it: its words in order, and the quantities, names and negations among them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Set
from functools import lru_cache
from itertools import pairwise

from lrf_overlap.lexicon import (
    DENIERS,
    MARKERS,
    MEASURED,
    MORE_SURNAMES,
    PERMITTING,
    SURNAMES,
    TRANSLITERATION,
    ZH_COMMON,
    ZH_DENIERS,
    ZH_MARKERS,
    ZH_NEGATION,
    ZH_NOT_IN_NAMES,
    ZH_NOT_NAMES,
    ZH_ORGANISATIONS,
    ZH_PLACES,
    ZH_STOP,
    ZH_TITLE_ENDS,
    ZH_UNABLE,
)
from lrf_overlap.opposites import OPPOSITES, PHRASES, ZH_CONVERSES, ZH_OPPOSITES, Signs
from lrf_overlap.quantities import quantities_of
from lrf_overlap.quantity import Quantity
from lrf_overlap.scope import scopes_in
from lrf_overlap.sentence import Opposite, Sentence, Token
from lrf_overlap.splitting import pieces_in
from lrf_overlap.words import BE, NO_GAP, Word, word_of

_LIST = re.compile("[、和与及]")
_FRONTED = re.compile(r"(?:For|In|At|On|With|By|After|Before|During|Since|Until|From|Under|Over|To|Among|Within) ")
_SCOPE, _HAN_SCOPE = 4, 10
"""Words after a negation that it may deny, and pairs of Chinese characters."""


@lru_cache(maxsize=4096)
def analysed(sentence: str) -> Sentence:
    """The analysis of one sentence of :func:`split`."""
    reader = _Reader(sentence)
    reader.read()
    return reader.sentence()


class _Reader:
    """Reads one sentence from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.starts: list[int] = []
        self.quantities: dict[int, tuple[Quantity, ...]] = {}
        self.negation_places: list[tuple[int, int]] = []
        self.until: set[int] = set()
        self.opposites: list[tuple[int, str, Signs, int]] = []
        self.privatives: dict[int, list[tuple[str, str]]] = {}
        self.passives: list[tuple[int, int]] = []
        self.be = False
        self.participle: int | None = None
        self.converses: set[tuple[int, int]] = set()
        self.markers: list[tuple[str, int]] = []
        self.fronted = 0
        self.gaps: set[int] = set()
        self.refusing: set[int] = set()
        self.ones: set[int] = set()
        self.clause = 0
        self.run: list[str] = []
        self.initials: set[str] = set()
        self.breaks: list[int] = []

    def read(self) -> None:
        at = 0
        for start, end, said in quantities_of(self.text):
            self._words(at, start)
            self.quantities[len(self.tokens)] = said
            if (
                self.text[start] == "一" and "二三四五六七八九十百千万亿半点".find(self.text[start + 1]) < 0
            ) or self.text[start : start + 4].lower() == "one ":
                self.ones.add(len(self.tokens))
            self._add(f"#{said[0].kind}{said[0].value:g}", "", "number")
            at = end
        self._words(at, len(self.text))
        self._end_run()
        if _FRONTED.match(self.text) and self.tokens:
            self.fronted = 1

    def sentence(self) -> Sentence:
        places: dict[str, list[int]] = {}
        placed: dict[tuple[int, str], list[int]] = {}
        for place, token in enumerate(self.tokens):
            places.setdefault(token.key, []).append(place)
            placed.setdefault((token.clause, token.key), []).append(place)
        negations = self._scopes()
        scopes = [scope for some in negations.values() for scope in some]
        denied = frozenset(place for scope in scopes for place in scope)
        near = {place for scope in scopes for place in scope[: 4 if self.tokens[scope[0]].kind == "han" else 2]}
        return Sentence(
            tokens=tuple(self.tokens),
            rank=self._ranks(),
            quantities=self.quantities,
            negations=negations,
            opposites=self._opposites(denied, near),
            privatives=self.privatives,
            converses=frozenset(self.converses),
            initials=frozenset(self.initials),
            markers=tuple(self.markers),
            places=places,
            placed=placed,
            clauses=tuple(self._clauses()),
            denied=denied,
            fronted=self.fronted,
            ones=frozenset(self.ones),
            refusing=frozenset(self.refusing),
            scopes=self._scopes_of_amount(),
            lists=frozenset(bisect_right(self.breaks, m.start()) for m in _LIST.finditer(self.text)),
        )

    def _opposites(self, denied: Set[int], near: Set[int]) -> dict[int, list[Opposite]]:
        found: dict[int, list[Opposite]] = {}
        for at, key, signs, clause in self.opposites:
            turned = at in near and not ZH_NEGATION.match(key)
            word = Opposite(key, at, signs, _turned(signs) if turned else signs, at in denied, _denying(key))
            found.setdefault(clause, []).append(word)
        return found

    def _scopes_of_amount(self) -> dict[int, set[str]]:
        scopes: dict[int, set[str]] = {}
        for at, name in scopes_in(self.text):
            scopes.setdefault(bisect_right(self.breaks, at), set()).add(name)
        return scopes

    def _clauses(self) -> Iterator[range]:
        starts = [p for p, t in enumerate(self.tokens) if p == 0 or t.clause != self.tokens[p - 1].clause]
        return (range(a, b) for a, b in pairwise([*starts, len(self.tokens)]))

    def _scopes(self) -> dict[int, list[tuple[int, ...]]]:
        """The reach of each negation, by clause. What "not until" says isn't known."""
        found: dict[int, list[tuple[int, ...]]] = {}
        by_clause: dict[int, list[int]] = {}
        for place, clause in self.negation_places:
            by_clause.setdefault(clause, []).append(place)
        self.refusing |= self.until
        for clause, places in by_clause.items():
            if clause in self.until:
                continue
            for place, end in zip(places, [*places[1:], len(self.tokens)], strict=True):
                if scope := self._scope(place, end, clause):
                    found.setdefault(clause, []).append(scope)
        return found

    def _scope(self, place: int, end: int, clause: int) -> tuple[int, ...]:
        if place >= len(self.tokens):
            return ()
        scope = _HAN_SCOPE if self.tokens[place].kind == "han" else _SCOPE
        reach = range(place, min(place + scope, end))
        return tuple(p for p in reach if self.tokens[p].clause == clause)

    def _ranks(self) -> tuple[int, ...]:
        """The order of the tokens where "P was v by A" is read as "A v P"."""
        order = list(range(len(self.tokens)))
        if not self.passives:
            return tuple(order)
        for verb, by in self.passives:
            if not 0 < by < len(self.tokens):
                continue
            clause = self.tokens[by].clause
            first = next((p for p in range(by) if self.tokens[p].clause == clause), by)
            han = self.tokens[by].kind == "han"
            last = by + 1
            while last < len(order) and self.tokens[last].clause == clause and (han or last not in self.gaps):
                last += 1
            # P 被 A v, and P v by A
            order[first:last] = [*order[by:last], *order[verb:by], *order[first:verb]]
        rank = [0] * len(order)
        for place, token in enumerate(order):
            rank[token] = place
        return tuple(rank)

    def _add(self, key: str, soft: str, kind: str) -> None:
        self.tokens.append(Token(key, soft, kind, self.clause))

    def _words(self, start: int, end: int) -> None:
        tokens = self.tokens
        for match in pieces_in(self.text, start, end):
            kind = match.lastgroup
            if kind == "word":
                word = word_of(match[0])
                if not word.plain or self.run:  # most words are plain
                    self._word(word, match[0], *match.span())
                elif not word.empty:
                    tokens.append(Token(word.key, word.soft, "word", self.clause))
                continue
            if self.run:
                self._end_run()
            if kind == "han":
                self._han(match[0])
            else:
                if match[0] not in "()（）、":
                    self.clause += 1
                    self.breaks.append(match.end())
                self.gaps.add(len(self.tokens))
                self.be, self.participle = False, None

    def _word(self, word: Word, form: str, start: int, end: int) -> None:
        if word.marks:
            self._marked(word)
        if word.empty and not (len(form) == 1 and start and form.isupper()):  # but group A
            if word.lower not in NO_GAP:
                self.gaps.add(len(self.tokens))
            if self.run and word.lower not in ("of", "the", "and", "for"):
                self._end_run()
            return
        capital = form[0].isupper()
        name = (capital and self._is_name(form, start, end)) or word.coded
        if capital:
            self.run.append(form)
        elif self.run:
            self._end_run()
        self.tokens.append(Token(word.key, word.soft, "name" if name else "word", self.clause))

    def _marked(self, word: Word) -> None:
        """Notes what a word does besides having content: deny, have an opposite, be part of a passive construction."""
        here = len(self.tokens)
        if word.negation:
            self.negation_places.append((here, self.clause))
        if word.lower in MARKERS:
            self.markers.append((word.lower, here))
        if word.opposites and not (word.lower in MEASURED and here and self.tokens[-1].kind == "number"):
            self.opposites.append((here, word.key, word.opposites, self.clause))
        elif word.lower in ("up", "down", "off") and here:
            self._particle(word.lower)
        if word.denied:
            self.privatives.setdefault(self.clause, []).append((word.key, word.denied))
        self.converses.update(word.converses)
        if word.key in DENIERS:
            self.refusing.add(self.clause)
        if word.lower in ("until", "unless", "till"):
            self.until.add(self.clause)
        self._passive(word)

    def _particle(self, particle: str) -> None:
        """Reads "turned down" as what it means."""
        if meant := PHRASES.get((self.tokens[-1].key, particle)):
            here = len(self.tokens) - 1
            while self.opposites and self.opposites[-1][0] == here:
                self.opposites.pop()
            self.opposites.append((here, meant, OPPOSITES[meant], self.clause))

    def _passive(self, word: Word) -> None:
        """Remembers "was" and a participle, until "by" ends a passive construction or a clause ends."""
        if word.lower in BE:
            self.be = True
            self.participle = None
        elif self.be and self.participle is None and word.participle:
            self.participle = len(self.tokens)
        elif word.lower == "by" and self.participle is not None:
            self.passives.append((self.participle, len(self.tokens)))
            self.be, self.participle = False, None

    def _is_name(self, form: str, start: int, end: int) -> bool:
        """Whether a capitalised word is a name: any is within a sentence; the first one, if another one follows."""
        before = self.text[:start].rstrip(" \"'“‘([*-")
        if form[1:] != form[1:].lower() or (before and before[-1] not in ":.!?"):
            return True
        if before or (form.endswith(("ing", "ly", "s")) and not form.endswith("'s")):
            return False
        following = self.text[end:].lstrip()
        return following[:1].isupper()

    def _end_run(self) -> None:
        if len(self.run) > 1:
            self.initials.add("".join(w[0] for w in self.run).lower())
        self.run = []

    def _han(self, run: str) -> None:
        """Adds each pair of neighbouring characters of a run without spaces, those without content left out."""
        kept = [(at, c) for at, c in enumerate(run) if c not in ZH_STOP]
        place_of = {at: len(self.tokens) + n for n, (at, _) in enumerate(kept[:-1] if len(kept) > 1 else kept)}
        for (_, one), (_, two) in pairwise(kept if len(kept) > 1 else [*kept, *kept]):
            self._add(one + two if len(kept) > 1 else one, "", "han")

        def place(at: int) -> int:
            """The token of the first kept character from this place on."""
            return next((n for start, n in place_of.items() if start >= at), len(self.tokens))

        self._han_names(run, place_of)
        if ZH_DENIERS.search(run):
            self.refusing.add(self.clause)
        self.negation_places += (
            (place(m.start() - 1 if m.start() and ZH_UNABLE.match(run, m.start()) else m.end()), self.clause)
            for m in ZH_NEGATION.finditer(run)
        )
        self.opposites += (
            (place(m.start()), m[0], ZH_OPPOSITES[m[0]], self.clause) for m in _ZH_OPPOSITE.finditer(run)
        )
        self.converses.update(sign for m in _ZH_CONVERSE.finditer(run) for sign in ZH_CONVERSES[m[0]])
        self.markers += ((m[0], place(m.end())) for m in ZH_MARKERS.finditer(run))
        self.passives += ((place(m.end()), place(m.end())) for m in _ZH_PASSIVE.finditer(run))

    def _han_names(self, run: str, place_of: Mapping[int, int]) -> None:
        for match in _ZH_NAME.finditer(run):
            start, end = match.span(match.lastindex or 0)
            if run[end - 1] in ZH_COMMON and (run[start] in ZH_COMMON or run[start] in SURNAMES):
                continue
            for at in range(start, end - 1):
                if at in place_of:
                    self.tokens[place_of[at]] = self.tokens[place_of[at]]._replace(kind="name")


def _denying(key: str) -> bool:
    return key in DENIERS or key in PERMITTING or ZH_DENIERS.match(key) is not None


def _turned(signs: Signs) -> Signs:
    return tuple((pair, -side) for pair, side in signs)


_ZH_CONVERSE = re.compile("|".join(sorted(ZH_CONVERSES, key=len, reverse=True)))
_ZH_OPPOSITE = re.compile(
    "|".join(sorted(ZH_OPPOSITES, key=len, reverse=True)).replace("|不得|", "|不得(?![超少低高多大小])|")
)
_ZH_NAME = re.compile(
    f"[{ZH_TITLE_ENDS}叫是由](?!{ZH_NOT_NAMES})([{SURNAMES}{MORE_SURNAMES}][\u4e00-\u9fff]{{2}})$|"
    f"(?:^|[由被给向和与及是为对叫])(?!{ZH_NOT_NAMES})([{SURNAMES}][\u4e00-\u9fff])"
    f"|(?!任何)[{ZH_TITLE_ENDS}](?!{ZH_NOT_NAMES})([{SURNAMES}{MORE_SURNAMES}][\u4e00-\u9fff])"
    f"|^(?!{ZH_NOT_NAMES})([林何许周黄张程孙余田任史武夏于康][\u4e00-\u9fff])"
    f"|([{TRANSLITERATION}]{{2,}})"
    f"|([^{ZH_NOT_IN_NAMES}]{{2}})(?:{ZH_ORGANISATIONS})"
    f"|(?:^|[从到往至在于赴离])([^{ZH_NOT_IN_NAMES}]{{1,3}}[{ZH_PLACES}])"
    f"|(?:^|[从到往至在于由自赴离])([^{ZH_NOT_IN_NAMES}]{{2}})(?=[开往飞驶迁搬][往到至])"
)
_ZH_PASSIVE = re.compile("[被由]")
