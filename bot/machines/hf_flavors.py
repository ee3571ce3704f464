"""The machines that Hugging Face Jobs has today, as runners."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from bot import devices
from bot.machines.runners import GB, Runner

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([A-Za-z]{1,4})")
_CORES = re.compile(r"(\d{1,5}) v?CPUs?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0}  # of a unit that is paid for
_UNSAID_DISK = 20 * GB  # the least that a flavor was ever listed with


class Hardware(Protocol):
    """huggingface_hub's data on a flavor (its ``JobHardwareInfo``): text of the Hub's, whatever their types say."""

    name: str
    cpu: str
    ram: str
    ephemeral_storage: str
    unit_cost_usd: float
    unit_label: str

    @property
    def accelerator(self) -> Any:
        """Its hardware beside processors, with a manufacturer and vram, if anything."""
        ...


class FlavorLister(Protocol):
    """A client that lists the flavors in one request."""

    def list_jobs_hardware(self) -> Sequence[Hardware]:
        """Return what a job may run on."""
        ...


def flavors(api: FlavorLister) -> tuple[Runner, ...]:
    """Return the flavors that the Hub lists, in one request. One that is described in another way is left out.

    Raises what huggingface_hub raises: see ``bot.hub.errors.hub_errors``.
    """
    return tuple(runner for listed in api.list_jobs_hardware() if (runner := flavor(listed)) is not None)


def flavor(listed: Hardware) -> Runner | None:
    """Return the runner that a flavor is, described in words as the Hub does it ("2 vCPU", "16 GB"), if it is one.

    One with an accelerator of which devices.toml says nothing is none. A flavor that does not tell its disk counts
    with the smallest disk that any has.
    """
    gpu = listed.accelerator
    cores, memory = _CORES.fullmatch(str(listed.cpu).strip()), parse_bytes(listed.ram)
    price = _price(listed)
    if cores is None or int(cores[1]) == 0 or not memory or price is None or not _NAME.fullmatch(str(listed.name)):
        return None
    device = None if gpu is None else devices.of_manufacturer(gpu.manufacturer)
    if gpu is not None and device is None:
        return None
    return Runner(
        name=f"hf-jobs/{listed.name}",
        kind="hf-jobs",
        system="linux",
        architecture="x86_64",
        cores=int(cores[1]),
        memory=memory,
        disk=parse_bytes(listed.ephemeral_storage) or _UNSAID_DISK,
        accelerator=devices.NONE if device is None else device.accelerator,
        accelerator_memory=0 if gpu is None else parse_bytes(gpu.vram) or 0,
        price=price,
    )


def _price(listed: Hardware) -> float | None:
    """Return what an hour costs, in US dollars."""
    hours = _HOURS.get(str(listed.unit_label))
    try:
        price = float(listed.unit_cost_usd)
    except (TypeError, ValueError):
        return None
    return round(price / hours, 6) if hours and 0 <= price < 1e6 else None


def parse_bytes(words: object) -> int | None:
    """Return the bytes that words like "16 GB" or "1.5 TB" say, or None for any others."""
    found = _AMOUNT.fullmatch(str(words).strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    return round(float(found[1]) * unit) if found and unit else None
