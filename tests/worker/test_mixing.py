"""Choosing types: bytes go where they gain most, and only where the prediction is sure of a gain."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.worker.mixing import OwnMix, Tensor, TooSmall, choose, fit

Array = Any


def tensor(*costs: float, spread: float = 0.0) -> Tensor:
    """A tensor whose types "small", "middle" and "large" have 4, 5 and 8 bytes, with what they cost in 4 windows."""
    off: Array = np.array([-1, 1, -1, 1]) * spread
    sizes = {"small": 4, "middle": 5, "large": 8}
    return Tensor(sizes=sizes, costs={name: cost + off * cost for name, cost in zip(sizes, costs, strict=True)})


def test_bytes_go_where_they_gain_most() -> None:
    found = choose({"a": tensor(5, 3, 0), "b": tensor(0.2, 0.1, 0)}, {"a": "middle", "b": "large"})
    assert found is not None
    assert found.kinds == {"a": "large", "b": "middle"}
    assert found.said.types == {"large": ("a",), "middle": ("b",)}
    assert found.said.predicted_kl == pytest.approx(0.1)
    assert found.said.own_kl == pytest.approx(3)


def test_the_tools_own_types_stay_where_a_gain_is_not_sure() -> None:
    tensors = {"a": tensor(1.01, 1, 0.98, spread=5), "b": tensor(1, 0.99, 0.985, spread=-5)}
    found = choose(tensors, {"a": "middle", "b": "large"})
    assert found is not None
    assert not found.said.gains
    assert found.kinds == {"a": "middle", "b": "large"}


def test_a_tensor_of_another_type_stays_what_it_is() -> None:
    found = choose({"a": tensor(5, 3, 0), "b": tensor(5, 3, 0)}, {"a": "float", "b": "middle"})
    assert found is not None
    assert found.kinds.keys() == {"b"}
    assert choose({"a": tensor(5, 3, 0)}, {"a": "float"}) is None


# ---- under a size that a person gives --------------------------------------------------------------------------

_REST = 100  # bytes of a header, and of what is not quantized
_TYPES = ("a", "b", "c")
_SIZES = st.lists(st.integers(1, 40), min_size=3, max_size=3, unique=True).map(sorted)
_COSTS = st.lists(st.lists(st.floats(0, 10), min_size=2, max_size=2), min_size=3, max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, OwnMix]]:
    """Tensors of random sizes and costs, and two mixes of a tool's own, with a tensor of which nothing is known."""
    found = {
        name: Tensor(
            sizes=dict(zip(_TYPES, draw(_SIZES), strict=True)),
            costs={kind: np.array(cost) for kind, cost in zip(_TYPES, draw(_COSTS), strict=True)},
        )
        for name in draw(st.sets(st.sampled_from("wxyz"), min_size=1))
    }
    mixes = {}
    for own in ("small", "large"):
        kinds = {name: draw(st.sampled_from(_TYPES)) for name in found}
        size = _REST + sum(found[name].sizes[kind] for name, kind in kinds.items())
        mixes[own] = OwnMix(size=size, kinds=kinds | {"norm": "F32"})
    return found, mixes


@given(tables(), st.integers(0, 150), st.integers(0, 50))
def test_a_file_has_no_more_bytes_than_were_given_and_more_of_them_never_cost_more(
    table: tuple[dict[str, Tensor], dict[str, OwnMix]], more: int, yet_more: int
) -> None:
    tensors, own = table
    given_ = _REST + sum(min(t.sizes.values()) for t in tensors.values()) + more
    costs = []
    for size in (given_, given_ + yet_more):
        rest, found = fit(tensors, own, size)
        assert found is not None
        assert rest in own
        assert _REST + sum(tensors[name].sizes[kind] for name, kind in found.kinds.items()) <= size
        costs.append(found.said.predicted_kl)
        assert (found.said.own_kl is None) == all(mix.size > size for mix in own.values())
        assert found.said.own_kl is None or found.said.predicted_kl <= found.said.own_kl + 1e-9
    assert costs[1] <= costs[0] + 1e-9


@given(tables())
def test_a_size_that_no_file_has_is_refused_with_those_that_are_possible(
    table: tuple[dict[str, Tensor], dict[str, OwnMix]],
) -> None:
    tensors, own = table
    least = _REST + sum(min(t.sizes.values()) for t in tensors.values())
    with pytest.raises(TooSmall, match=f"{least - 1} bytes is too small: a file of it may have {least} to"):
        fit(tensors, own, least - 1)


def test_where_no_tensor_is_free_the_largest_of_the_tools_mixes_that_fits_is_taken() -> None:
    own = {name: OwnMix(size=size, kinds={"experts": name}) for name, size in (("small", 10), ("large", 20))}
    assert [fit({}, own, size) for size in (10, 19, 20)] == [("small", None), ("small", None), ("large", None)]
    with pytest.raises(TooSmall, match=r"^9 bytes is too small: a file of it may have 10 to 20$"):
        fit({}, own, 9)
