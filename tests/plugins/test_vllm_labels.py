"""Label probabilities read from next tokens: exact for any vocabulary."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import BadReplyError
from lrf.prompting.expectations import Rating, Verdict
from lrf_vllm.labels import common_beginning, label_probabilities


class Model:
    """A language model over a small vocabulary: the weight of a token is a hash of the text before it and itself."""

    def __init__(self, vocabulary: Sequence[str], salt: int = 0) -> None:
        self.vocabulary = vocabulary
        self.salt = salt
        self.asked: list[str] = []

    def weight(self, text: str, token: str) -> float:
        digest = hashlib.blake2b(f"{self.salt}|{text}|{token}".encode(), digest_size=4).digest()
        return 0.05 + int.from_bytes(digest) / 2**32

    def allowed(self, text: str, rests: Sequence[str]) -> dict[str, float]:
        """The next tokens of a model that is held to the rests, with their probabilities."""
        weights = {t: self.weight(text, t) for t in self.vocabulary if any(r.startswith(t) for r in rests)}
        total = sum(weights.values())
        return {token: weight / total for token, weight in weights.items()}

    async def next_token(self, text: str, rests: Sequence[str]) -> list[tuple[str, float]]:
        self.asked.append(text)
        allowed = self.allowed(text, rests)
        listed = [(t, math.log(p)) for t, p in allowed.items()]
        return [*listed, *((t, -9999.0) for t in self.vocabulary if t not in allowed)]

    def exact(self, text: str, rests: Sequence[str]) -> dict[str, float]:
        """The probability of each rest, by following every way of cutting it into tokens to its end.

        What one rest alone can follow is certain, as it is for a model that is held to the rests.
        """
        if len(rests) == 1:
            return {rests[0]: 1.0}
        found = dict.fromkeys(rests, 0.0)
        for token, p in self.allowed(text, rests).items():
            still = [r for r in rests if r.startswith(token)]
            inner = self.exact(text + token, [r[len(token) :] for r in still])
            for rest in still:
                found[rest] += p * inner[rest[len(token) :]]
        return found


LETTERS = "ab1"
VOCABULARIES = st.lists(st.text(LETTERS + "]", min_size=1, max_size=4), max_size=8).map(
    lambda extra: sorted({*LETTERS, "]", "[", *extra})
)


@given(
    VOCABULARIES,
    st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    st.integers(0, 1_000),
)
async def test_the_probabilities_are_those_of_each_label(vocabulary: list[str], names: list[str], salt: int) -> None:
    labels = [f"[{name}]" for name in names]
    model = Model(vocabulary, salt)
    found = await label_probabilities(model.next_token, "Rating: ", labels)
    shared = common_beginning(labels)
    exact = model.exact("Rating: " + shared, [label[len(shared) :] for label in labels])
    assert set(found) == set(labels)
    assert sum(found.values()) == pytest.approx(1)
    for label in labels:
        assert found[label] == pytest.approx(exact[label[len(shared) :]], abs=2e-3 * len(labels))


DIGITS = [str(n) for n in range(10)]


async def test_ratings_whose_numbers_are_single_tokens_take_one_question() -> None:
    model = Model([*DIGITS, "10", "[[", "]]"])
    model.weight = lambda text, token: {"7": 6.0, "10": 3.0, "1": 1e-9}.get(token, 0.1)  # type: ignore[method-assign]
    found = await label_probabilities(model.next_token, "", Rating().options)
    assert model.asked == ["[["]
    assert found["[[10]]"] == pytest.approx(found["[[7]]"] / 2)
    assert found["[[1]]"] == pytest.approx(0, abs=1e-6)


async def test_a_ten_of_two_tokens_is_told_from_a_one_by_a_second_question() -> None:
    model = Model([*DIGITS, "[[", "]]"])
    after_one = {"]]": 1.0, "0": 3.0}
    model.weight = lambda text, token: after_one[token] if text.endswith("1") else 1.0  # type: ignore[method-assign]
    found = await label_probabilities(model.next_token, "", Rating().options)
    assert model.asked == ["[[", "[[1"]
    assert found["[[10]]"] == pytest.approx(0.075)
    assert found["[[1]]"] == pytest.approx(0.025)
    assert found["[[7]]"] == pytest.approx(0.1)


async def test_tokens_that_are_written_alike_add_up() -> None:
    async def twice(text: str, rests: Sequence[str]) -> list[tuple[str, float]]:
        return [("a", math.log(0.3)), ("a", math.log(0.3)), ("b", math.log(0.4))]

    assert await label_probabilities(twice, "", ["a]", "b]"]) == pytest.approx({"a]": 0.6, "b]": 0.4})


async def test_a_server_whose_probabilities_are_not_held_to_the_labels_is_renormalised() -> None:
    async def raw(text: str, rests: Sequence[str]) -> list[tuple[str, float]]:
        return [("Fully", math.log(0.5)), ("No", math.log(0.25)), ("The", math.log(0.2))]

    labels = Verdict({"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}).options
    found = await label_probabilities(raw, "", labels)
    assert [found[label] for label in labels] == pytest.approx([2 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [("The", 0.0)],
        [("The", math.log(0.9)), ("a", math.log(0.05))],
        [("a", -9999.0), ("b", float("-inf"))],
        [("a", float("nan"))],
        [("", 0.0)],
    ],
)
async def test_tokens_that_do_not_bear_on_the_labels_are_a_bad_reply(tokens: list[tuple[str, float]]) -> None:
    async def fixed(text: str, rests: Sequence[str]) -> list[tuple[str, float]]:
        return tokens

    with pytest.raises(BadReplyError, match="did not restrict the token"):
        await label_probabilities(fixed, "", ["a]", "b]"])


async def test_a_single_label_is_certain_without_a_question() -> None:
    model = Model([])
    assert await label_probabilities(model.next_token, "", ["[[x]]"]) == {"[[x]]": 1.0}
    assert model.asked == []


async def test_a_label_that_another_begins_with_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with another"):
        await label_probabilities(Model(["a", "b"]).next_token, "", ["a", "ab"])


@given(st.lists(st.text("ab", max_size=5), min_size=1))
def test_the_common_beginning_is_the_longest_that_all_share(labels: list[str]) -> None:
    shared = common_beginning(labels)
    assert all(label.startswith(shared) for label in labels)
    longer = {label[: len(shared) + 1] for label in labels}
    assert len(longer) > 1 or shared in labels
