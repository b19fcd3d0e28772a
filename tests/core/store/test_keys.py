"""The filter in front of the journal: it never denies a key that is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrf.store.keys import PerhapsThere


@given(added=st.lists(st.binary(max_size=20)), other=st.binary(max_size=20))
def test_every_key_that_was_added_is_there_and_hardly_any_other(added: list[bytes], other: bytes) -> None:
    keys = PerhapsThere()
    for key in added:
        keys.add(key)
    assert all(key in keys for key in added)
    assert (other in keys) == (other in added)


def test_with_a_hundred_thousand_keys_one_other_in_a_thousand_at_most_seems_to_be_there() -> None:
    keys = PerhapsThere()
    for n in range(100_000):
        keys.add(b"key %d" % n)
    assert all(b"key %d" % n in keys for n in range(100_000))
    assert sum(b"other %d" % n in keys for n in range(20_000)) <= 20
