"""Several files are written in step: each has all that it needs in its own order, and what they share is read once."""

from hypothesis import given
from hypothesis import strategies as st

from bot.worker.order import model_order, stretches_in_order


def files_of(*letters: str) -> list[list[tuple[str, ...]]]:
    return [[(letter,) for letter in file] for file in letters]


def steps(*letters: str) -> list[tuple[str, list[int]]]:
    return [(needed, numbers) for (needed,), numbers in stretches_in_order(files_of(*letters))]


def test_files_in_one_order_share_every_read() -> None:
    assert steps("abc", "abc", "abc") == [("a", [0, 1, 2]), ("b", [0, 1, 2]), ("c", [0, 1, 2])]


def test_a_file_that_is_further_waits_for_the_others() -> None:
    assert steps("cd", "abcd", "bcd") == [("a", [1]), ("b", [1, 2]), ("c", [0, 1, 2]), ("d", [0, 1, 2])]


def test_a_weight_that_a_file_needs_twice_is_read_twice() -> None:
    assert steps("aba", "aba") == [("a", [0, 1]), ("b", [0, 1]), ("a", [0, 1])]


@given(st.lists(st.text("abcde", max_size=8), max_size=4))
def test_every_file_gets_all_that_it_needs_in_its_own_order(letters: list[str]) -> None:
    taken = [""] * len(letters)
    for needed, numbers in steps(*letters):
        for number in numbers:
            taken[number] += needed
    assert taken == letters


@given(st.text("abcde", max_size=8), st.lists(st.integers(min_value=0, max_value=8), min_size=1, max_size=4))
def test_no_read_is_made_twice_for_files_that_were_left_at_different_places(order: str, begun: list[int]) -> None:
    assert len(steps(*(order[n:] for n in begun))) == len(order[min(begun) :])


def test_a_model_is_read_as_it_computes() -> None:
    names = [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
        "model.layers.10.self_attn.qkv_proj.weight",
        "model.layers.2.block_sparse_moe.experts.10.w1.weight",
        "model.layers.2.block_sparse_moe.experts.9.w2.weight",
        "model.layers.2.block_sparse_moe.experts.9.w3.weight",
        "model.layers.2.block_sparse_moe.experts.9.w1.weight",
        "model.layers.2.block_sparse_moe.gate.weight",
        "model.layers.2.self_attn.o_proj.weight",
        "model.layers.3.self_attn.dense.weight",
        "model.layers.3.self_attn.q_proj.weight",
        "model.norm.weight",
    ]
    assert sorted(names, key=model_order) == [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.2.self_attn.o_proj.weight",
        "model.layers.2.block_sparse_moe.gate.weight",
        "model.layers.2.block_sparse_moe.experts.9.w1.weight",
        "model.layers.2.block_sparse_moe.experts.9.w3.weight",
        "model.layers.2.block_sparse_moe.experts.10.w1.weight",
        "model.layers.2.block_sparse_moe.experts.9.w2.weight",
        "model.layers.3.self_attn.q_proj.weight",
        "model.layers.3.self_attn.dense.weight",
        "model.layers.10.self_attn.qkv_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ]
