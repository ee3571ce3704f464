"""The flavors of Hugging Face Jobs, as the Hub describes them in words."""

import pytest
from huggingface_hub import JobHardwareInfo
from hypothesis import given
from hypothesis import strategies as st

from bot.hub.client import Hub
from bot.machines.hf_flavors import flavor, flavors, parse_bytes
from bot.machines.runners import Runner, built_in
from bot.records.artifacts import Json

GB = 10**9
CPU_BASIC: dict[str, Json] = {
    "name": "cpu-basic",
    "prettyName": "CPU Basic",
    "cpu": "2 vCPU",
    "ram": "16 GB",
    "ephemeralStorage": "50 GB",
    "accelerator": None,
    "unitCostMicroUSD": 167,
    "unitCostUSD": 0.000167,
    "unitLabel": "minute",
}
L4 = {"type": "gpu", "model": "L4", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"}


def listed(**changes: Json) -> Runner | None:
    return flavor(JobHardwareInfo(**(CPU_BASIC | changes)))


def test_a_flavor_in_words_is_a_runner() -> None:
    assert listed() == Runner(
        name="hf-jobs/cpu-basic",
        kind="hf-jobs",
        system="linux",
        architecture="x86_64",
        cores=2,
        memory=16 * GB,
        disk=50 * GB,
        price=0.01002,
    )


def test_one_with_a_gpu_has_its_memory() -> None:
    found = listed(accelerator=L4, unitCostUSD=0.8, unitLabel="hour")
    assert found is not None
    assert (found.accelerator, found.accelerator_memory, found.price) == ("nvidia", 24 * GB, 0.8)


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": "two"},
        {"cpu": "0 vCPU"},
        {"cpu": None},
        {"ram": "N/A"},
        {"ram": 16},
        {"unitLabel": "fortnight"},
        {"unitCostUSD": -1},
        {"unitCostUSD": None},
        {"unitCostUSD": float("nan")},
        {"name": "x; rm -rf /"},
        {"name": "../x"},
        {"accelerator": L4 | {"manufacturer": "Habana"}},
    ],
    ids=str,
)
def test_one_that_is_described_in_another_way_is_left_out(changes: dict[str, Json]) -> None:
    assert listed(**changes) is None


def test_one_that_does_not_tell_its_disk_counts_with_little() -> None:
    found = listed(ephemeralStorage="N/A")
    assert found is not None
    assert found.disk == 20 * GB


@given(
    st.integers(1, 10**6),
    st.sampled_from([("MB", 10**6), ("GB", 10**9), ("TB", 10**12), ("GiB", 2**30)]),
    st.sampled_from(["{} {}", "{}{}", " {} {} "]),
)
def test_amounts_in_words_are_read(number: int, unit: tuple[str, int], words: str) -> None:
    assert parse_bytes(words.format(number, unit[0])) == number * unit[1]


@given(st.text(max_size=20))
def test_any_words_at_all_are_an_amount_or_none(words: str) -> None:
    found = parse_bytes(words)
    assert found is None or found >= 0


def test_the_hubs_list_of_flavors_equals_the_built_in_one(client: Hub) -> None:
    """The embedded Hub has the real list's words; prices there are rounded to a millionth of a dollar a minute."""
    rows = {r.name: r for r in built_in()}
    found = flavors(client.api)
    assert {"hf-jobs/cpu-basic", "hf-jobs/cpu-upgrade", "hf-jobs/t4-small"} <= {r.name for r in found}
    for runner in found:
        row = rows[runner.name]
        assert runner.price == pytest.approx(row.price, rel=0.01)
        assert runner.to_json() | {"price": 0} == row.to_json() | {"price": 0}
