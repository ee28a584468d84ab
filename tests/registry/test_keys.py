"""Keys of a store: names become parts of keys and never paths."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, strategies as st

from modelstore.exceptions import InvalidNameError
from modelstore.registry import keys


@given(st.text(min_size=1, max_size=30))
def test_any_name_becomes_one_harmless_part_of_a_key(name: str) -> None:
    """An encoded name has no slash, no dot at its ends, only unreserved ASCII, and decodes to itself."""
    assume(not any("\ud800" <= character <= "\udfff" for character in name))
    part = keys.encode_name(name)
    assert list(keys.decode_names([part])) == [name]
    assert part.isascii()
    assert "/" not in part
    assert "\\" not in part
    assert part not in (".", "..")
    assert not part.startswith(".")
    assert not part.endswith(".")


@pytest.mark.parametrize("name", ["..", ".", "../../etc", "a/b", ".hidden", "modèle", "名前", "a b", "%2E", "C:\\x"])
def test_names_that_people_type_stay_apart(name: str) -> None:
    """Odd names are taken, and two that differ get different keys."""
    assert keys.clean_name("domain", name) == name
    others = [keys.encode_name(other) for other in ("..", "%2E%2E", "a", "a/b", "a b", "A") if other != name]
    assert keys.encode_name(name) not in others


def test_two_unicode_forms_of_a_name_are_one_name() -> None:
    """A name typed on macOS (decomposed) is the same domain as one typed elsewhere."""
    assert keys.clean_name("domain", "cafe\u0301") == keys.clean_name("domain", "caf\u00e9")


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "é" * 40, "\ud800", 7, None])
def test_names_that_cannot_be_kept_are_refused(name: object) -> None:
    """Empty, too long once encoded, not UTF-8, not text: each is a ValueError that names the name."""
    with pytest.raises(InvalidNameError) as caught:
        keys.clean_name("domain", name)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert caught.value.name == name


@given(st.integers(min_value=1, max_value=10**11), st.sampled_from([None, "fraud", "a/b"]))
def test_event_keys_are_parsed_back(number: int, domain: str | None) -> None:
    """The number of an event stands in its key, below its segment."""
    key = keys.event_key(domain, number)
    assert keys.parse_event_key(key) == number
    assert key.startswith(keys.segment_prefix(domain, number))
    assert keys.segment_start(number) <= number < keys.segment_start(number) + keys.SEGMENT


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_compacted_keys_are_parsed_back(first: int, last: int) -> None:
    """The span of joined events stands in their key."""
    assert keys.parse_compact_key(keys.compact_key("d", first, last)) == (first, last)


@pytest.mark.parametrize("key", ["log/1/x.json", "log/1/12.json", "log/1/000000000001.txt", "log/1/.json"])
def test_other_objects_are_no_events(key: str) -> None:
    """Whatever else lies in a log's folder is passed over."""
    assert keys.parse_event_key(key) is None
