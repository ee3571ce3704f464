"""The ids at which generating stops, as configs name them."""

from hypothesis import given
from hypothesis import strategies as st

from bot.records.artifacts import Json
from bot.worker.tokens import with_stop_ids


def test_missing_ids_follow_those_in_the_config() -> None:
    assert with_stop_ids([32007, 32000], [32000, 32001]) == [32007, 32000, 32001]
    assert with_stop_ids(32000, [32000]) == [32000]
    assert with_stop_ids(None, [32000]) == [32000]


@given(st.none() | st.integers() | st.text() | st.booleans() | st.lists(st.none() | st.integers() | st.text()))
def test_whatever_a_config_holds_the_result_is_a_list_of_ids_each_once(given_value: Json) -> None:
    result = with_stop_ids(given_value, [1, 2])
    assert {1, 2} <= set(result)
    assert len(result) == len(set(result))
    assert all(type(i) is int for i in result)
