from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.protocols import Pairing
from lrf.testing import check_pairing, check_plugin
from lrf.testing.strategies import rewards, samples
from lrf.types import Candidate, Document, LeftOut, PreferencePair, Preferences, Reward, Sample
from lrf_pairs.above_noise import AboveNoise
from lrf_pairs.all_pairs import AllPairs
from lrf_pairs.best_worst import BestWorst
from lrf_pairs.contrast import Contrast
from lrf_pairs.settings import AboveNoiseSettings, AllPairsSettings, BestWorstSettings, ContrastSettings

Scored = tuple[Sample, tuple[Reward, ...]]


def scored(*values: float | None, texts: list[str] | None = None, sources: str = "", sample: str = "s") -> Scored:
    found = tuple(
        Candidate(str(i), texts[i] if texts else f"answer {i}", sources[i] if sources else None)
        for i in range(len(values))
    )
    made = Sample(sample, "query", (Document("0", "context"),), found)
    return made, tuple(Reward(sample, c.id, v, {"a": v}) for c, v in zip(found, values, strict=True))


def best_worst(**settings: Any) -> BestWorst:
    return BestWorst(BestWorstSettings.model_validate({"min_candidates": 2, **settings}))


def contrast(**settings: Any) -> Contrast:
    return Contrast(ContrastSettings.model_validate({"strong": "S", "weak": "W", **settings}))


@st.composite
def scored_samples(draw: st.DrawFn) -> Scored:
    sample = draw(samples())
    return sample, draw(rewards(sample))


@st.composite
def best_worst_rules(draw: st.DrawFn) -> tuple[BestWorst, BestWorstSettings]:
    settings = BestWorstSettings(
        min_candidates=draw(st.integers(2, 6)),
        margin=draw(st.sampled_from((0.0, 0.5, 1.0, 9.0))),
        ties=draw(st.sampled_from(("hash", "first", "left_out"))),
    )
    return BestWorst(settings), settings


def test_every_component_that_the_plugin_registers_can_be_imported() -> None:
    check_plugin("lrf_pairs.plugin")


@pytest.mark.parametrize(
    "rule",
    [
        BestWorst(BestWorstSettings()),
        best_worst(ties="first", margin=1),
        best_worst(ties="left_out"),
        AllPairs(AllPairsSettings(min_candidates=2, most=3)),
        contrast(strong="strong", weak="weak"),
    ],
)
def test_the_built_in_rules_pass_the_check_for_everyones(rule: Pairing) -> None:
    check_pairing(rule)


@given(best_worst_rules(), scored_samples())
def test_a_pair_is_of_the_highest_and_lowest_reward(
    rule: tuple[BestWorst, BestWorstSettings], given_sample: Scored
) -> None:
    pairing, settings = rule
    outcome = pairing.pair(*given_sample)
    values = [r.reward for r in given_sample[1] if r.reward is not None]
    if isinstance(outcome, PreferencePair):
        reward_of = {r.candidate_id: r.reward for r in given_sample[1]}
        assert outcome.chosen_reward == reward_of[outcome.chosen.id] == pytest.approx(max(values), abs=1e-9)
        assert outcome.rejected_reward == reward_of[outcome.rejected.id] == pytest.approx(min(values), abs=1e-9)
        assert outcome.chosen_reward > outcome.rejected_reward
        assert outcome.chosen_reward >= outcome.rejected_reward + settings.margin - 1e-9
        assert outcome.chosen.text.strip() != outcome.rejected.text.strip()
        assert len(values) >= settings.min_candidates
    else:
        assert outcome.reason in ("too_few_scored", "tie", "no_margin", "same_text")


@given(best_worst_rules(), scored_samples())
def test_a_sample_is_left_out_for_a_reason(rule: tuple[BestWorst, BestWorstSettings], given_sample: Scored) -> None:
    pairing, settings = rule
    sample, given_rewards = given_sample
    outcome = pairing.pair(sample, given_rewards)
    if isinstance(outcome, PreferencePair):
        return
    values = [r.reward for r in given_rewards if r.reward is not None]
    if outcome.reason == "too_few_scored":
        assert len(values) < settings.min_candidates
        return
    high, low = max(values), min(values)
    both = list(zip(sample.candidates, given_rewards, strict=True))
    texts = {
        v: {c.text.strip() for c, r in both if r.reward is not None and abs(r.reward - v) <= 1e-9} for v in (high, low)
    }
    shared = max(sum(abs(value - v) <= 1e-9 for value in values) for v in (high, low))
    match outcome.reason:
        case "tie":
            assert high - low <= 1e-9 or (settings.ties == "left_out" and shared > 1)
        case "no_margin":
            assert 0 < high - low < settings.margin
        case "same_text":
            assert texts[high] == texts[low]
            assert len(texts[high]) == 1


@given(scored_samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_change_the_pair(given_sample: Scored, random: Any) -> None:
    sample, given_rewards = given_sample
    both = list(zip(sample.candidates, given_rewards, strict=True))
    random.shuffle(both)
    turned = Sample(sample.id, sample.query, sample.documents, tuple(c for c, _ in both))
    expected = best_worst().pair(sample, given_rewards)
    assert best_worst().pair(turned, [r for _, r in both]) == expected


def test_unscored_candidates_are_neither_best_nor_worst() -> None:
    outcome = best_worst().pair(*scored(None, 3.0, 8.0, None, 5.0))
    assert isinstance(outcome, PreferencePair)
    assert (outcome.chosen.id, outcome.rejected.id) == ("2", "1")


def test_by_default_five_candidates_must_be_scored() -> None:
    rule = BestWorst(BestWorstSettings())
    assert rule.pair(*scored(1.0, 2.0, 3.0, 4.0, None)) == LeftOut("too_few_scored", "4 of 5 needed")
    assert isinstance(rule.pair(*scored(1.0, 2.0, 3.0, 4.0, 5.0)), PreferencePair)


def test_equal_rewards_never_make_a_pair() -> None:
    assert best_worst(margin=0).pair(*scored(7.0, 7.0, 7.0)) == LeftOut("tie", "all 3 rewards are 7")


def test_means_that_differ_in_rounding_only_are_equal() -> None:
    one, other = 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1
    assert one != other
    assert best_worst().pair(*scored(one, other, one)) == LeftOut("tie", "all 3 rewards are 0.6")
    assert best_worst(ties="left_out").pair(*scored(one, other, 0.0)) == LeftOut(
        "tie", "2 candidates have 0.6, 1 have 0"
    )


def test_a_difference_of_exactly_the_margin_is_enough() -> None:
    assert isinstance(best_worst(margin=0.5).pair(*scored(7.1, 6.6)), PreferencePair)
    assert best_worst(margin=0.5).pair(*scored(7.1, 6.7)) == LeftOut("no_margin", "7.1 and 6.7 are less than 0.5 apart")


def test_ties_for_a_place_are_broken_by_hash_or_place_or_not_at_all() -> None:
    tied = scored(2.0, 9.0, 9.0, 2.0)
    first = best_worst(ties="first").pair(*tied)
    assert isinstance(first, PreferencePair)
    assert (first.chosen.id, first.rejected.id) == ("1", "0")
    assert best_worst(ties="left_out").pair(*tied) == LeftOut("tie", "2 candidates have 9, 2 have 2")


def test_over_many_samples_the_hash_prefers_no_place() -> None:
    chosen = []
    for n in range(400):
        outcome = best_worst().pair(*scored(2.0, 9.0, 9.0, sample=str(n)))
        assert isinstance(outcome, PreferencePair)
        chosen.append(outcome.chosen.id)
    assert 150 < chosen.count("1") < 250


def test_the_same_text_is_never_set_against_itself() -> None:
    assert best_worst().pair(*scored(9.0, 2.0, texts=["a", "a"])) == LeftOut(
        "same_text", "rewards 9 and 2 were given to the same text"
    )


def test_white_space_around_a_text_makes_it_no_other_text() -> None:
    for rule in (best_worst(), contrast()):
        outcome = rule.pair(*scored(9.0, 2.0, texts=["a", " a\n"], sources="SW"))
        assert isinstance(outcome, LeftOut)
        assert outcome.reason == "same_text"


@pytest.mark.parametrize("ties", ["hash", "first"])
def test_among_tied_candidates_one_with_another_text_is_taken(ties: str) -> None:
    outcome = best_worst(ties=ties).pair(*scored(9.0, 9.0, 2.0, texts=["a", "b", "a"]))
    assert isinstance(outcome, PreferencePair)
    assert (outcome.chosen.text, outcome.rejected.text) == ("b", "a")


@given(samples())
def test_contrast_sets_the_strong_against_the_weak_or_says_which_is_missing(sample: Sample) -> None:
    outcome = contrast(strong="strong", weak="weak").pair(sample, ())
    sources = [c.source for c in sample.candidates]
    if isinstance(outcome, PreferencePair):
        assert (outcome.chosen.source, outcome.rejected.source) == ("strong", "weak")
        assert outcome.chosen.text.strip() != outcome.rejected.text.strip()
        assert outcome.chosen_reward is None
    elif outcome.reason == "same_text":
        texts = {c.text.strip() for c in sample.candidates if c.source in ("strong", "weak")}
        assert len(texts) == 1
    else:
        assert outcome.reason == ("no_strong" if "strong" not in sources else "no_weak")


def test_rewards_stand_in_the_pair_and_decide_nothing() -> None:
    outcome = contrast().pair(*scored(1.0, 9.0, sources="SW"))
    assert isinstance(outcome, PreferencePair)
    assert (outcome.chosen_reward, outcome.rejected_reward) == (1.0, 9.0)


def test_sources_are_preferred_in_the_order_given() -> None:
    outcome = contrast(strong=["X", "B", "A"], weak=["C"]).pair(*scored(None, None, None, sources="ABC"))
    assert isinstance(outcome, PreferencePair)
    assert outcome.chosen.source == "B"


def test_a_missing_source_is_named_with_those_that_are_there() -> None:
    assert contrast().pair(*scored(1.0, 2.0, sources="SX")) == LeftOut(
        "no_weak", "no candidate of W; the sample's sources: S, X"
    )


@pytest.mark.parametrize("settings", [{"strong": "W"}, {"strong": []}, {"strong": ""}, {"weak": ["W", "S"]}])
def test_equal_sources_of_strong_and_weak_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        contrast(**settings)


@pytest.mark.parametrize("settings", [{"min_candidates": 1}, {"margin": -1}, {"ties": "longer"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        best_worst(**settings)


def above_noise(**settings: Any) -> AboveNoise:
    return AboveNoise(AboveNoiseSettings.model_validate({"min_candidates": 2, "noise": 0.5, **settings}))


def test_above_noise_leaves_out_what_noise_alone_explains() -> None:
    check_pairing(above_noise())
    near = above_noise().pair(*scored(5.0, 6.3))
    assert isinstance(near, LeftOut)
    assert near.reason == "no_margin"
    assert isinstance(above_noise().pair(*scored(5.0, 6.4)), PreferencePair)  # 1.96 * sqrt(2) * 0.5 is 1.386


def test_above_noise_leaves_out_what_length_alone_explains() -> None:
    texts = ["x" * n for n in (10, 20, 30, 40)]
    by_length = above_noise().pair(*scored(2.0, 4.1, 5.9, 8.0, texts=texts))
    assert isinstance(by_length, LeftOut)
    assert by_length.reason == "explained_by_length"
    against_it = above_noise().pair(*scored(8.0, 3.0, 7.0, 2.0, texts=texts))
    assert isinstance(against_it, PreferencePair)
    assert isinstance(above_noise(without_length=False).pair(*scored(2.0, 4.1, 5.9, 8.0, texts=texts)), PreferencePair)


def test_rewards_that_are_noise_make_hardly_any_pair_and_real_ones_most() -> None:
    import random

    chance = random.Random(3)
    rule = above_noise(noise=1.0, without_length=False)
    noise = [rule.pair(*scored(chance.gauss(5, 1), chance.gauss(5, 1))) for _ in range(400)]
    real = [rule.pair(*scored(min(10.0, chance.gauss(8, 0.5)), chance.gauss(2, 0.5))) for _ in range(400)]
    assert sum(isinstance(p, PreferencePair) for p in noise) < 40
    assert sum(isinstance(p, PreferencePair) for p in real) > 390


@hypothesis.settings(max_examples=25)
@given(scored_samples(), st.sampled_from((0.0, 1.5)), st.sampled_from((None, 1, 4)))
def test_all_pairs_are_those_apart_by_the_margin_and_its_first_is_best_against_worst(
    given_sample: Scored, margin: float, most: int | None
) -> None:
    rule = AllPairs(AllPairsSettings(min_candidates=2, margin=margin, most=most))
    made, best = rule.pair(*given_sample), best_worst(margin=margin).pair(*given_sample)
    scored_candidates = [
        (c.text.strip(), r.reward) for c, r in zip(given_sample[0].candidates, given_sample[1], strict=True)
    ]
    expected = [
        high - low
        for text, high in scored_candidates
        for other, low in scored_candidates
        if high is not None and low is not None and text != other and high - low > 1e-9 and high - low >= margin - 1e-9
    ]
    if isinstance(made, LeftOut):
        assert not expected or made.reason == "too_few_scored"
        assert isinstance(best, LeftOut)
        return
    differences = [pair.chosen_reward - pair.rejected_reward for pair in made.pairs]  # type: ignore[operator]
    assert differences == pytest.approx(sorted(expected, reverse=True)[:most])
    if isinstance(best, PreferencePair):
        assert differences[0] == pytest.approx(best.chosen_reward - best.rejected_reward)  # type: ignore[operator]


def test_the_rule_all_pairs_gives_several_pairs_of_a_sample() -> None:
    made = AllPairs(AllPairsSettings(min_candidates=2, margin=2)).pair(*scored(9, None, 5, 4, 1))
    assert isinstance(made, Preferences)
    found = [(pair.chosen.id, pair.rejected.id) for pair in made.pairs]
    assert found == [("0", "4"), ("0", "3"), ("0", "2"), ("2", "4"), ("3", "4")]
