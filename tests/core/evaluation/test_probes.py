"""The detectors are tested themselves: every planted bias is found, and honest judges are left in peace."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf.evaluation.audit import AuditResult, baseline_scores
from lrf.evaluation.audit_items import AuditSettings, Built, build
from lrf.evaluation.probes import Probe, flip_rate, noise_of, probe
from lrf.evaluation.rewording import add_reworded
from lrf.testing.planted_scorers import PLANTED_SCORERS, planted_decisions, planted_repeats, planted_scores

DOCUMENTS = sorted((Path(__file__).parents[3] / "examples/quickstart/documents").glob("*.md"))
ORDERS = {"order in the answer", "order in the document", "order in the question"}
FOUND_BY = {
    "honest": (set(), set()),
    "prefers long": ({"verbosity"}, {"repeated facts", "format"}),
    "obeys injections": (ORDERS, set()),
    "constant": ({"constant"}, {"master key"}),
    "noisy": ({"noise"}, set()),
    "blind in depth": ({"blind in depth"}, set()),
    "blind to negation": ({"blind to negation"}, set()),
    "passes master keys": ({"master key"}, set()),
    "prefers first": ({"position"}, set()),
    "prefers its own words": ({"own words"}, set()),
}
"""By planted judge: the probes that must raise an alarm, and those that may, since the bias is theirs as well."""


@pytest.fixture(scope="module")
def built() -> Built:
    built = build(
        [path.read_text(encoding="utf-8") for path in DOCUMENTS], AuditSettings(limit=40, lengths=(4000, 8000))
    )
    texts = {(r["id"], c["id"]): f"So: {c['text']}" for r in built.rows for c in r["candidates"]}
    add_reworded(built, texts)
    return built


def probed(name: str, built: Built, seed: int) -> list[Probe]:
    return probe(
        built.asked, planted_scores(name, built, seed), planted_decisions(name, built, seed),
        planted_repeats(name, built, seed), own_words=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", PLANTED_SCORERS)
def test_each_planted_judge_is_found_by_its_probe_and_by_no_other(built: Built, name: str) -> None:
    must, may = FOUND_BY[name]
    alarms = [{p.name for p in probed(name, built, seed) if p.alarm} for seed in (1, 2, 3)]
    assert all(must <= found <= must | may for found in alarms), alarms


def test_at_most_five_of_a_hundred_honest_judges_raise_any_alarm(built: Built) -> None:
    small = Built(built.rows, built.comparisons, [one for one in built.asked if int(one.sample.split("-")[1]) < 20])
    alarmed = sum(any(p.alarm for p in probed("honest", small, seed)) for seed in range(100))
    assert alarmed <= 5


def test_the_noise_of_a_judge_is_within_its_interval_and_gives_the_margin(built: Built) -> None:
    noise = noise_of(planted_repeats("noisy", built, 5, times=6))
    assert noise.deviation.low is not None
    assert noise.deviation.low < 2.0 < (noise.deviation.high or 0)
    assert noise.margin == pytest.approx(1.96 * 2**0.5 * (noise.deviation.value or 0))
    assert noise_of([[5.0]]).deviation.value is None


def test_flips_are_counted_by_pair_and_time() -> None:
    same = {"q": [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 9.0}]}
    turned = {"q": [{"a": 1.0, "b": 2.0}, {"a": 9.0, "b": 3.0}, {"a": 1.0, "b": 1.0}]}
    assert flip_rate(same).value == 0
    assert flip_rate(turned).value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert flip_rate({}).value is None


def test_an_honest_judge_beats_the_baselines_and_a_constant_one_is_called_out(built: Built) -> None:
    baselines = baseline_scores(built, 0)
    honest, constant = (
        AuditResult(built.asked, {name: planted_scores(name, built, 1), **baselines}, [name], 0, 5)
        for name in ("honest", "constant")
    )
    assert honest.not_beaten() == []
    assert (honest.found("honest").balanced.value or 0) > 0.95
    guessing = honest.found("random").balanced
    assert guessing.low is not None
    assert guessing.low < 0.5 < (guessing.high or 0)
    assert {"overlap", "random", "always true"} & set(constant.not_beaten())
    assert constant.found("constant").pairs.value == 0.5
    assert constant.answers("constant")["fewer facts, lower reward"].value == 0.5
    assert (honest.answers("honest")["fewer facts, lower reward"].value or 0) > 0.8


def test_blindness_shows_in_the_tables_by_depth_and_kind(built: Built) -> None:
    def by(name: str) -> dict[str, dict[str, float]]:
        result = AuditResult(built.asked, {name: planted_scores(name, built, 1)}, [name], 0, 5)
        return {key: {g: f.pairs.value or 0.0 for g, f in of.items()} for key, of in result.groups(name).items()}

    depth = by("blind in depth")["depth"]
    assert depth["0% to 20%"] == 1.0
    assert depth["80% to 100%"] < 0.8
    kinds = by("blind to negation")["kind"]
    assert kinds["negation"] < 0.8
    assert kinds["number"] == 1.0


def test_what_was_not_scored_is_counted_and_left_out(built: Built) -> None:
    scores = planted_scores("honest", built, 1)
    some = {key: score for number, (key, score) in enumerate(scores.items()) if number % 3}
    found = AuditResult(built.asked, {"honest": some, **baseline_scores(built, 0)}, ["honest"], 0, 5)
    assert found.found("honest").unscored > 0
    assert any(line.startswith("statements without a score") for line in found.remarks())
    nothing = AuditResult(built.asked, {"none": {}, **baseline_scores(built, 0)}, ["none"], 0, 5)
    assert nothing.found("none").balanced.value is None
    assert nothing.remarks()[-1] == "verdict: none, since no statement has a score"
    assert nothing.tables()
    assert probe(built.asked, {}) == []


def test_only_statements_that_were_said_anew_as_asked_are_taken(built: Built) -> None:
    documents = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    plain = build(documents, AuditSettings(limit=6, probes=False))
    first, second, third, fourth, fifth, sixth = (row["id"] for row in plain.rows)
    said = {(r["id"], c["id"]): c["text"] for r in plain.rows for c in r["candidates"]}
    texts = {key: f"{text} It is so." for key, text in said.items()}
    texts[second, "wrong"] = f"{said[second, 'wrong']} 17 more."
    texts[third, "true"] = said[third, "true"].upper()
    del texts[fourth, "true"]
    texts[fifth, "true"] = said[fifth, "true"][: len(said[fifth, "true"]) * 2 // 3]
    texts[sixth, "wrong"] = f"<statement>\n{said[sixth, 'wrong']}"
    add_reworded(plain, texts)
    own = [(one.sample, one.candidate, one.true, one.base) for one in plain.asked if one.form == "reworded"]
    assert own == [(first, "own", True, None), (first, "own-wrong", False, (first, "own"))]
    assert plain.remarks[-1].endswith("left out: 5")
