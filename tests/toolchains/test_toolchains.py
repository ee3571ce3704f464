"""The toolchains as they are: installed from their locks, they hold what the locks say, and it works."""

import json
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from bot import toolchains
from bot.progress import display
from bot.records.artifacts import Json
from bot.toolchains import Toolchain, system
from bot.toolchains.compile import unpack_kept
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from bot.toolchains.lock import read


def python(toolchain: Toolchain, code: str, tmp_path: Path) -> Json:
    """Run code as workers are run; it prints JSON."""
    command = [str(toolchain.python), "-I", "-c", f"import json\n{code}"]
    ran = subprocess.run(command, capture_output=True, text=True, env=child_environment(str(tmp_path)))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.toolchain
@pytest.mark.parametrize("name", toolchains.names())
def test_a_toolchain_holds_the_packages_of_its_lock(name: str, tmp_path: Path) -> None:
    lock = read(toolchains.lock_file(name))
    if system.refusal(lock) is not None:
        pytest.skip(f"{name}: {system.refusal(lock)}")
    toolchain = ensure(name, display())
    assert toolchain.lock_digest == toolchains.lock_digest(name)
    locked = {(r.name, r.version) for r in lock.requirements}
    assert set(toolchain.versions.items()) <= locked
    assert len(toolchain.versions) > 10
    imports = "; ".join(f"import {module}" for module in lock.imports)
    assert python(toolchain, f"{imports}\nprint(json.dumps(True))", tmp_path)


@pytest.mark.toolchain
@pytest.mark.parametrize("name", ["gguf", "onnx", "openvino", "reference", "torch"])
def test_torch_is_built_for_the_cpu(name: str, tmp_path: Path) -> None:
    code = "import torch; print(json.dumps([torch.version.cuda, torch.cuda.is_available()]))"
    assert python(ensure(name, display()), code, tmp_path) == [None, False]


@pytest.mark.toolchain
def test_threads_of_numpy_take_no_time_between_two_products(tmp_path: Path) -> None:
    code = """
import time
import numpy
a = numpy.ones((512, 512), dtype=numpy.float32)
def idle():
    a @ a
    before = time.process_time()
    time.sleep(0.03)
    return time.process_time() - before
print(json.dumps(sum(idle() for _ in range(20))))
"""
    assert python(ensure("mlx", display()), code, tmp_path) < 0.05  # it was 0.2, in which the threads span


@pytest.mark.toolchain
def test_the_converter_is_of_the_archive_that_the_runtime_was_built_from(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
source = Path(sys.prefix) / "src" / "llama.cpp"
sys.path.insert(0, str(source))
import gguf
from conversion import get_model_class
print(json.dumps([str(source), gguf.__file__, get_model_class("Phi3ForCausalLM").__module__]))
"""
    source, package, module = python(ensure("gguf", display()), code, tmp_path)
    assert package == f"{source}/gguf-py/gguf/__init__.py"
    assert module == "conversion.phi"


@pytest.mark.toolchain
@pytest.mark.skipif(system.name() != "linux-x86_64", reason="these are x86-64's names")
def test_the_runtime_is_built_for_a_level_of_processor_not_for_this_one(tmp_path: Path) -> None:
    code = "import llama_cpp; print(json.dumps(llama_cpp.llama_print_system_info().decode()))"
    features = python(ensure("gguf", display()), code, tmp_path)
    assert "AVX2 = 1" in features
    assert "AVX512 = 1" not in features


def test_only_the_requested_files_of_an_archive_are_kept_and_inside_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "package-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("tool.py", "part/a.py", "part/../../../escaped.py", "parts/b.py", "other.py", "../part/c.py"):
            member = tarfile.TarInfo(f"package-1.0/vendor/tool/{name}")
            member.size = 4
            tar.addfile(member, BytesIO(b"pass"))
        link = tarfile.TarInfo("package-1.0/vendor/tool/part/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    unpack_kept(archive, "vendor/tool", ("tool.py", "part"), into=tmp_path / "kept" / "tool")
    kept = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink())
    assert kept == ["kept/tool/part/a.py", "kept/tool/tool.py", "package-1.0.tar.gz"]
