"""The result of an audit: does the judge find planted errors, by kind, depth, length and form, at which price?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lrf.evaluation.audit_items import Asked, Built
from lrf.evaluation.baselines import overlap, share_of, words_of
from lrf.evaluation.measures import LEVEL, REDRAWS, Share
from lrf.evaluation.probes import Noise, Probe, Scores
from lrf.evaluation.statistics import Calibration, calibration, wilson
from lrf.evaluation.tables import Table, shown_share
from lrf.types import JSON

THRESHOLD = 5.0
"""The score from which a judge calls a statement true."""

BASELINES = ("overlap", "longer wins", "random", "always true")


@dataclass(frozen=True, slots=True)
class Found:
    """How well one judge tells true from wrong statements in a group.

    Parameters
    ----------
    balanced: the mean of the shares of true and of wrong statements that it calls so; the threshold is 5 of 10.
    pairs: how often a true statement scores above its own wrong form, a tie counting half. Needs no threshold.
    n: statements with a score; ``unscored`` those without.
    """

    balanced: Share
    pairs: Share
    n: int
    unscored: int

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "balanced_accuracy": self.balanced.as_json(), "pairwise": self.pairs.as_json(), "n": self.n,
            "unscored": self.unscored,
        }  # fmt: skip


def found_in(asked: Iterable[Asked], scores: Scores, seed: int = 0) -> Found:
    """What the judge finds among these statements."""
    group = list(asked)
    rated = [(one, score) for one in group if (score := scores.get((one.sample, one.candidate))) is not None]
    won = [w for one in group if (w := wins(one, scores)) is not None]
    balanced = _balanced([one.true for one, _ in rated], [score >= THRESHOLD for _, score in rated], seed)
    return Found(balanced, wilson(sum(won), len(won)), len(rated), len(group) - len(rated))


def wins(one: Asked, scores: Scores) -> float | None:
    """Whether the base of a changed answer scores above it: 1, 0.5 for a tie, or 0; None where a score is missing."""
    changed = scores.get((one.sample, one.candidate))
    base = None if one.base is None else scores.get(one.base)
    if changed is None or base is None:
        return None
    return 1.0 if base > changed else 0.5 if base == changed else 0.0


def _balanced(truth: Sequence[bool], said: Sequence[bool], seed: int) -> Share:
    """Balanced accuracy with its bootstrap interval."""
    true, right = np.asarray(truth, dtype=bool), np.asarray(truth, dtype=bool) == np.asarray(said, dtype=bool)
    if not true.any() or true.all():
        return Share(None, None, None)
    value = float((right[true].mean() + right[~true].mean()) / 2)
    generator = np.random.default_rng(seed)
    recalls = []
    for of_class in (right[true], right[~true]):  # redrawn within each class, so that none is ever empty
        chosen = generator.integers(0, len(of_class), (REDRAWS // 2, len(of_class)))
        recalls.append(of_class[chosen].mean(axis=1))
    low, high = np.quantile((recalls[0] + recalls[1]) / 2, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(value, float(low), float(high))


def baseline_scores(built: Built, seed: int) -> dict[str, dict[tuple[str, str], float]]:
    """The scores of the trivial baselines."""
    scores: dict[str, dict[tuple[str, str], float]] = {name: {} for name in BASELINES}
    lengths = sorted(one.characters for one in built.asked)
    rank = {n: 10 * place / max(1, len(lengths) - 1) for place, n in enumerate(lengths)}
    for row in built.rows:
        words = words_of("\n".join(document["text"] for document in row["context"]))
        for candidate in row["candidates"]:
            key = row["id"], candidate["id"]
            scores["overlap"][key] = 10 * overlap(candidate["text"], words)
            scores["longer wins"][key] = rank[len(candidate["text"])]
            scores["random"][key] = 10 * share_of(str(seed), *key)
            scores["always true"][key] = 10.0
    return scores


@dataclass(slots=True)
class AuditResult:
    """What an audit found.

    Parameters
    ----------
    asked, scores: what was asked, and the scores by judge; the first is the main one, the last are the baselines.
    judges: the names that are no baselines.
    probes, noise, flips: of the main judge; noise is None where nothing was asked again.
    price: calls, tokens and money by currency.
    """

    asked: Sequence[Asked]
    scores: Mapping[str, Scores]
    judges: Sequence[str]
    seed: int
    depths: int
    probes: Sequence[Probe] = ()
    noise: Noise | None = None
    flips: Share | None = None
    price: Mapping[str, JSON] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def statements(self) -> list[Asked]:
        return [one for one in self.asked if one.part == "statement"]

    def found(self, judge: str) -> Found:
        return found_in(self.statements, self.scores[judge], self.seed)

    def groups(self, judge: str) -> dict[str, dict[str, Found]]:
        """What the judge finds by kind, form, depth and length. Each wrong statement is there with its true form."""
        keys: dict[str, Callable[[Asked], str]] = {
            "kind": lambda one: one.kind,
            "form": lambda one: one.form,
            "depth": lambda one: self._depth(one.depth),
            "length": lambda one: f"{one.length:,}",
        }
        by_id = {(one.sample, one.candidate): one for one in self.asked}
        found: dict[str, dict[str, Found]] = {}
        for name, key in keys.items():
            members: dict[str, list[Asked]] = {}
            for one in self.statements:
                if not one.true and one.base is not None:
                    members.setdefault(key(one), []).extend((one, by_id[one.base]))
            order = sorted(members, key=lambda group: (len(group), group) if name == "length" else (0, group))
            found[name] = {group: found_in(members[group], self.scores[judge], self.seed) for group in order}
        return found

    def _depth(self, depth: float) -> str:
        place = min(int(depth * self.depths), self.depths - 1)
        return f"{place / self.depths:.0%} to {(place + 1) / self.depths:.0%}"

    def calibration(self, judge: str) -> Calibration:
        scores = self.scores[judge]
        rated = [(o.true, s) for o in self.statements if (s := scores.get((o.sample, o.candidate))) is not None]
        return calibration([true for true, _ in rated], [min(max(score / 10, 0.0), 1.0) for _, score in rated])

    def answers(self, judge: str) -> dict[str, Share]:
        """How often a whole answer scores above the same with one wrong sentence, or with facts removed."""
        parts: dict[str, list[float]] = {}
        for one in self.asked:
            won = wins(one, self.scores[judge]) if one.part in ("answer", "completeness") and one.base else None
            if won is not None:
                name = f"{one.removed} of 6 facts removed" if one.part == "completeness" else f"one error, {one.form}"
                parts.setdefault(name, []).append(won)
        ordered = [o for o in self._removed_in_order(judge) if o is not None]
        shares = {name: wilson(sum(won), len(won)) for name, won in sorted(parts.items())}
        return {**shares, "fewer facts, lower reward": wilson(sum(ordered), len(ordered))} if ordered else shares

    def _removed_in_order(self, judge: str) -> Iterable[float | None]:
        """For each answer with facts removed, whether 6, 4 and 2 facts score in this order; a tie counts half."""
        scores = self.scores[judge]
        for one in self.asked:
            if one.part == "completeness" and one.removed == 4 and one.base is not None:
                less = scores.get((one.sample, "answer-2"))
                full, least = scores.get(one.base), scores.get((one.sample, one.candidate))
                if less is None or full is None or least is None:
                    yield None
                else:
                    steps = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in ((full, less), (less, least))]
                    yield min(steps)

    @property
    def alarms(self) -> list[Probe]:
        return [probe for probe in self.probes if probe.alarm]

    def not_beaten(self) -> list[str]:
        """The baselines whose balanced accuracy isn't below the judge's beyond chance."""
        low = self.found(self.judges[0]).balanced.low
        values = {name: self.found(name).balanced.value for name in BASELINES}
        return [name for name, value in values.items() if value is not None and (low is None or low <= value)]

    def as_json(self) -> Mapping[str, JSON]:
        main = self.judges[0]
        found, calibrated = self.found(main), self.calibration(main)
        return {
            **found.as_json(),
            "ece": calibrated.ece,
            "reliability": [list(bin_) for bin_ in calibrated.bins],
            "by": {name: {g: f.as_json() for g, f in of.items()} for name, of in self.groups(main).items()},
            "answers": {name: share.as_json() for name, share in self.answers(main).items()},
            "judges": {name: self.found(name).as_json() for name in self.scores},
            "not_better_than": self.not_beaten(),
            "probes": {probe.name: probe.as_json() for probe in self.probes},
            "alarms": [probe.name for probe in self.alarms],
            "noise": None if self.noise is None else {**self.noise.deviation.as_json(), "margin": self.noise.margin},
            "flip_rate": None if self.flips is None else self.flips.as_json(),
            "price": self.price,
            "notes": self.notes,
        }

    def tables(self) -> list[Table]:
        main = self.judges[0]
        head = ("judge", "balanced accuracy [95%]", "true above wrong [95%]", "ECE", "statements", "unscored")
        rows = []
        for name in self.scores:
            found, ece = self.found(name), self.calibration(name).ece
            shares = shown_share(found.balanced), shown_share(found.pairs)
            rows.append((name, *shares, "-" if ece is None else f"{ece:.3f}", f"{found.n:,}", f"{found.unscored:,}"))
        tables = [Table("single statements", head, rows)]
        grouped = [
            (name, group, shown_share(f.balanced), shown_share(f.pairs), f"{f.n:,}")
            for name, of in self.groups(main).items()
            for group, f in of.items()
        ]
        by = ("by", "group", "balanced accuracy [95%]", "true above wrong [95%]", "statements")
        tables.append(Table(f"{main}, by kind of error, form, depth and length", by, grouped))
        if answers := self.answers(main):
            tables.append(
                Table("whole answers: how often the better one scores higher", ("change", "share [95%]"),
                      [(name, shown_share(share)) for name, share in answers.items()])
            )  # fmt: skip
        if self.probes:
            probed = [
                (p.name, p.what, shown_share(p.figure), f"{p.n:,}", f"{p.corrected:.3g}", "ALARM" if p.alarm else "")
                for p in self.probes
            ]
            tables.append(Table("probes", ("probe", "figure", "value [95%]", "n", "p, corrected", ""), probed))
        return tables

    def remarks(self) -> list[str]:
        """Sentences on what a reader must not overlook; the last is the verdict."""
        found, lines = self.found(self.judges[0]), list(self.notes)
        if found.unscored:
            lines.append(f"statements without a score, left out: {found.unscored:,}")
        if self.noise is not None and self.noise.margin is not None:
            flips = "" if self.flips is None else f"; {shown_share(self.flips)} of pairs change their order"
            lines.append(
                f"noise: asked again, a reward differs by {shown_share(self.noise.deviation)} (standard deviation); "
                f"pairs less than {self.noise.margin:.2f} apart are within it{flips}"
            )
        if self.price is not None:
            calls, tokens = self.price.get("calls") or 0, self.price.get("tokens") or 0
            money = "".join(f", {amount:,.4g} {unit}" for unit, amount in (self.price.get("money") or {}).items())
            lines.append(f"price: {calls:,} calls, {tokens:,} tokens{money}")
        lines += [f"alarm: {probe.name} ({probe.what}: {shown_share(probe.figure)})" for probe in self.alarms]
        if others := self.not_beaten():
            lines.append(f"the judge is not better than these baselines beyond chance: {', '.join(others)}")
        verdict = f"balanced accuracy {shown_share(found.balanced)}; 0.5 is guessing, 1 finds every planted error"
        lines.append(f"verdict: {verdict if found.n else 'none, since no statement has a score'}")
        return lines
