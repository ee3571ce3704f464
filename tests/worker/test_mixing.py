"""Choosing types: bytes go where they gain most, and only where the prediction is sure of a gain."""

from typing import Any

import numpy as np
import pytest

from bot.worker.mixing import Tensor, choose

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
