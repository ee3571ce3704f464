"""Build a model of a real size on a disk that would not hold its weights: ``python -m benchmarks.small_disk``.

An embedded Hub holds the model; the work is done on a file system of its own, of so many gigabytes, in a file that is
mounted (which takes root, on Linux). Writes benchmarks/results/small-disk.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.checkpoints import SHAPES, make
from bot.building.sample import make_sample
from bot.cli.family_support import first_defaults
from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Json, Report

RESULTS = Path(__file__).parent / "results" / "small-disk.json"
VARIANTS = tuple(v.name for v in first_defaults())
GB = 10**9


@contextmanager
def disk(folder: Path, size: float) -> Iterator[Path]:
    """Mount a file system with so many bytes free, and remove it at the end."""
    image, mount = folder / "disk.img", folder / "disk"
    mount.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(int(size * 1.02) + (64 << 20))  # what the file system itself takes, without a journal
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
        image.unlink()


def used(folder: Path) -> int:
    """Return the bytes in use on the file system of a folder."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextmanager
def most_used(folder: Path) -> Iterator[list[int]]:
    """Look ten times a second how full a disk is; the list holds the most that was seen."""
    most, over = [used(folder)], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            most[0] = max(most[0], used(folder))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def release(hub: RunningHub, repo_id: str, model: Path) -> None:
    """Move a model to a Hub, file by file: this disk may not hold it twice."""
    there, head = client.connect(hub.url, hub.token), None
    for file in sorted(model.iterdir()):
        with Silent().task("release") as task:
            head = there.commit(repo_id, files={file.name: file}, parent=head, message=f"Add {file.name}", task=task)
        file.unlink()
    model.rmdir()


def build(hub: RunningHub, repo_id: str, variant: str, folder: Path, size: float) -> Json:
    """Build a variant on a disk of its own; return what it took."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1"}
    with disk(folder, size) as mount, most_used(mount) as most:
        empty, free = used(mount), shutil.disk_usage(mount).free
        command = [sys.executable, "-m", "bot.cli", "build", repo_id, "--variants", variant, "--work", str(mount)]
        started = time.monotonic()
        done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            return {"variant": variant, "error": done.stderr[-2000:]}
        [artifact] = Report.from_json(json.loads(done.stdout)).artifacts
        output = sum(f.size for f in artifact.build.files)
        return {
            "variant": variant,
            "disk": free,
            "most_used": most[0] - empty,
            "output": output,
            "beside_output": most[0] - empty - output,
            "seconds": round(seconds, 1),
            "peak_memory_of_worker": artifact.build.cost.peak_memory,
            "streamed": "so they stream" in done.stderr,
            "files": {f.path: f.sha256 for f in artifact.build.files},
        }


def main() -> None:
    """Make the model, put it on a Hub, and build each variant; write each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="phi-4")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--sparse", action="store_true", help="weights of zeros: honest for the disk, not for the time")
    parser.add_argument("--disk", type=float, default=12.0, help="gigabytes that are free on it")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--work", type=Path, default=Path(".small-disk"))
    options = parser.parse_args()
    shape, repo_id = SHAPES[options.shape], f"microsoft/{options.shape}"
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    make_sample(options.work / "sample", Silent(), family=shape.family)
    model = make(shape, options.work / "sample", options.work / "model", layers=options.layers, sparse=options.sparse)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with serve(options.work / "hub") as hub:
        weights = sum(p.stat().st_size for p in model.glob("*.safetensors"))
        release(hub, repo_id, model)
        for variant in options.variants.split(","):
            found = build(hub, repo_id, variant, options.work / variant.replace("/", "-"), options.disk * GB)
            print(json.dumps({k: v for k, v in found.items() if k != "files"}))
            results[f"{options.shape} {variant}"] = found | {"weights": weights, "zeros": options.sparse}
            RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
