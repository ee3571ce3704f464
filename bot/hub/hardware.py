"""The machines that Hugging Face Jobs has today, as runners."""

import re
from typing import TYPE_CHECKING

from bot.runners import GB, Runner

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([A-Za-z]{1,4})")
_CORES = re.compile(r"(\d{1,5}) v?CPUs?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0}  # of a unit that is paid for
_UNSAID_DISK = 20 * GB  # the least that a flavor was ever listed with


def flavors(api: "HfApi") -> tuple[Runner, ...]:
    """Return the flavors that the Hub lists, in one request. One that is described in another way is left out.

    Raises what huggingface_hub raises: see ``bot.hub.failures.told``.
    """
    found = (
        flavor(
            name=str(hardware.name),
            cpu=str(hardware.cpu),
            ram=str(hardware.ram),
            disk=str(hardware.ephemeral_storage),
            vram=str(hardware.accelerator.vram) if hardware.accelerator else None,
            maker=str(hardware.accelerator.manufacturer) if hardware.accelerator else None,
            price=hardware.unit_cost_usd if isinstance(hardware.unit_cost_usd, int | float) else -1.0,
            unit=str(hardware.unit_label),
        )
        for hardware in api.list_jobs_hardware()
    )
    return tuple(runner for runner in found if runner is not None)


def flavor(
    *, name: str, cpu: str, ram: str, disk: str, vram: str | None, maker: str | None, price: float, unit: str
) -> Runner | None:
    """Return the runner that a flavor is, described in words as the Hub does it ("2 vCPU", "16 GB"), if it is one.

    What another accelerator than NVIDIA's is for is not known here. A flavor that does not tell its disk counts with
    the smallest disk that any has.
    """
    cores, memory = _CORES.fullmatch(cpu.strip()), amount(ram)
    hours = _HOURS.get(unit)
    if (
        cores is None
        or int(cores[1]) == 0
        or not memory
        or hours is None
        or not 0 <= price < 1e6
        or not _NAME.fullmatch(name)
    ):
        return None
    if maker is not None and maker.lower() != "nvidia":
        return None
    return Runner(
        name=f"hf-jobs/{name}",
        kind="hf-jobs",
        system="linux",
        architecture="x86_64",
        cores=int(cores[1]),
        memory=memory,
        disk=amount(disk) or _UNSAID_DISK,
        accelerator="none" if maker is None else "nvidia",
        accelerator_memory=(amount(vram) or 0) if vram else 0,
        price=round(price / hours, 6),
    )


def amount(words: str) -> int | None:
    """Return the bytes that words like "16 GB" or "1.5 TB" say, or None for any others."""
    found = _AMOUNT.fullmatch(words.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    return round(float(found[1]) * unit) if found and unit else None
