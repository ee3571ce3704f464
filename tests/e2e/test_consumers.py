"""What people do with a published repo: pull it as its format's users do, and get what the proven file gave."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.records.artifacts import ProvenBuild, Report
from bot.records.evidence import Generation
from tests.e2e.world import World

pytestmark = pytest.mark.toolchain


def proven(published: Report, variant: str) -> tuple[str, ProvenBuild]:
    """Return the repo of a published variant and its build."""
    for publication in published.publications:
        for build in publication.builds:
            if build.build.variant.name == variant:
                return publication.repo_id, build
    raise LookupError(variant)


def consumer(world: World, toolchain: Path, code: str, *arguments: str, folder: Path) -> list[list[int]]:
    """Run a user's script in the format's environment; it prints the ids that it generated."""
    done = subprocess.run(
        [str(toolchain), "-c", textwrap.dedent(code), *arguments],
        env=os.environ | world.environment | {"HF_HOME": str(folder / "hf")},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ids: list[list[int]] = json.loads(done.stdout.strip().splitlines()[-1])
    return ids


def prompts(generations: tuple[Generation, ...]) -> str:
    return json.dumps([[g.prompt_ids, len(g.ids)] for g in generations])


def expected(generations: tuple[Generation, ...]) -> list[list[int]]:
    return [list(g.ids) for g in generations]


def download(world: World, repo_id: str, folder: Path, *options: str) -> None:
    """Run ``hf download``."""
    hf = Path(sys.executable).parent / "hf"
    done = subprocess.run(
        [str(hf), "download", repo_id, "--local-dir", str(folder), *options],
        env=os.environ | world.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_llama_from_pretrained(
    published: Report, world: World, toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    repo_id, build = proven(published, "gguf/q4_k_m")
    code = """
        import json, sys
        from llama_cpp import Llama, llama_model_get_vocab, llama_vocab_is_eog
        llama = Llama.from_pretrained(repo_id=sys.argv[1], filename="*Q4_K_M.gguf", n_ctx=512, verbose=False)
        vocabulary = llama_model_get_vocab(llama.model)
        out = []
        for ids, count in json.loads(sys.argv[2]):
            made = []
            for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
                if llama_vocab_is_eog(vocabulary, token) or len(made) == count:
                    break
                made.append(token)
            out.append(made)
        print(json.dumps(out))
    """
    generations = build.evidence.generations
    got = consumer(world, toolchain("gguf"), code, repo_id, prompts(generations), folder=tmp_path)
    assert got == expected(generations)


def test_onnxruntime_genai_model(
    published: Report, world: World, toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    repo_id, build = proven(published, "onnx/cpu-int4")
    download(world, repo_id, tmp_path / "model", "--include", "cpu-int4/*")
    code = """
        import json, sys
        import onnxruntime_genai as og
        model = og.Model(sys.argv[1])
        stop = set(json.load(open(sys.argv[1] + "/genai_config.json"))["model"]["eos_token_id"])
        out = []
        for ids, count in json.loads(sys.argv[2]):
            params = og.GeneratorParams(model)
            params.set_search_options(do_sample=False, max_length=len(ids) + count)
            generator = og.Generator(model, params)
            generator.append_tokens(ids)
            made = []
            while not generator.is_done():
                generator.generate_next_token()
                token = int(generator.get_next_tokens()[0])
                if token in stop:
                    break
                made.append(token)
            out.append(made)
        print(json.dumps(out))
    """
    generations = build.evidence.generations
    folder = tmp_path / "model" / "cpu-int4"
    got = consumer(world, toolchain("onnx"), code, str(folder), prompts(generations), folder=tmp_path)
    assert got == expected(generations)


def test_openvino_genai_pipeline(
    published: Report, world: World, toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    repo_id, build = proven(published, "openvino/int4")
    download(world, repo_id, tmp_path / "model")
    code = """
        import json, sys
        import numpy as np, openvino as ov, openvino_genai as genai
        pipe = genai.LLMPipeline(sys.argv[1], "CPU")
        out = []
        for ids, count in json.loads(sys.argv[2]):
            tokens = genai.TokenizedInputs(ov.Tensor(np.array([ids])), ov.Tensor(np.ones((1, len(ids)), np.int64)))
            made = pipe.generate(tokens, max_new_tokens=count, do_sample=False, apply_chat_template=False).tokens[0]
            out.append([int(t) for t in made])
        print(json.dumps(out))
    """
    generations = build.evidence.generations
    got = consumer(world, toolchain("openvino"), code, str(tmp_path / "model"), prompts(generations), folder=tmp_path)
    assert got == expected(generations)


def test_mlx_lm_load(published: Report, world: World, toolchain: Callable[[str], Path], tmp_path: Path) -> None:
    repo_id, build = proven(published, "mlx/4bit")
    code = """
        import json, sys
        from mlx_lm import load, stream_generate
        model, tokenizer = load(sys.argv[1])
        out = []
        for ids, count in json.loads(sys.argv[2]):
            made = [r.token for r in stream_generate(model, tokenizer, ids, max_tokens=count)]
            out.append([t for t in made if t not in tokenizer.eos_token_ids])
        print(json.dumps(out))
    """
    generations = build.evidence.generations
    got = consumer(world, toolchain("mlx"), code, repo_id, prompts(generations), folder=tmp_path)
    wanted = expected(generations)
    if "on the CPU" in build.evidence.runtime:  # measured with products in float32; there mlx-lm's own are rougher
        got, wanted = [answer[:2] for answer in got], [answer[:2] for answer in wanted]
    assert got == wanted
