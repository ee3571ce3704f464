"""The machines that the embedded Hub says it has: some of the real ones. Every job runs on the one at hand."""

from typing import Any


def _flavor(name: str, words: str, machine: tuple[int, int, int], micro_usd: int, **gpu: str) -> dict[str, Any]:
    """Return a flavor as the Hub says it; ``machine`` is its processors, and its GB of memory and of disk."""
    cpu, ram, disk = machine
    return {
        "name": name,
        "prettyName": words,
        "cpu": f"{cpu} vCPU",
        "ram": f"{ram} GB",
        "ephemeralStorage": f"{disk} GB",
        "accelerator": {"type": "gpu", "quantity": "1", "manufacturer": "Nvidia", **gpu} if gpu else None,
        "unitCostMicroUSD": micro_usd,
        "unitCostUSD": micro_usd / 1e6,
        "unitLabel": "minute",
    }


FLAVORS = (
    _flavor("cpu-basic", "CPU Basic", (2, 16, 50), 167),
    _flavor("cpu-upgrade", "CPU Upgrade", (8, 32, 50), 500),
    _flavor("cpu-xl", "CPU XL", (16, 124, 1000), 16667),
    _flavor("t4-small", "Nvidia T4 - small", (4, 15, 50), 6667, model="T4", vram="16 GB"),
    _flavor("l4x1", "1x Nvidia L4", (8, 30, 400), 13333, model="L4", vram="24 GB"),
    _flavor("a100-large", "Nvidia A100 - large", (12, 142, 1000), 41667, model="A100", vram="80 GB"),
)
