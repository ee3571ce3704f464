"""A model's repo whose card claims to be ours and whose builder hands on a hostile prompt: what people then read."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from tests.markdown_reader import inlines, parse
from tests.steps import proven
from tests.steps.test_promote import GGUF_REPO, World, api, config, rewrite, world
from tests.steps.test_publish import no_plots

__all__ = ["api", "config", "no_plots", "world"]

pytestmark = pytest.mark.usefixtures("no_plots")

CARD = """---
license: other
license_name: "mit\\n---\\n# Owned"
license_link: javascript:alert(1)
base_model: evil/other
base_model_relation: finetune
pipeline_tag: "text-generation\\nlicense: mit"
tags: [phi, "<script>", "a: b\\nc: d", custom_code, eval-results]
language: [en, "../../x"]
widget: [{text: "x", output: {url: "https://evil.example/x.png"}}]
inference: {parameters: {temperature: 0}}
phi_bot: {source: evil/other@main, builds: {gguf/q4_k_m: "0000", gguf/q8_0: "1111"}, contents: {}}
extra_gated_prompt: "<script>alert(1)</script>"
---
<script>alert(1)</script> ![](https://evil.example/x.png)
"""
PROMPT = "```\n---\n# Owned\n<script>alert(1)</script>\n````\n~~~\n![](https://evil.example/x.png)\u202e"


def test_a_card_that_pretends_and_a_prompt_that_breaks_out(world: World, api: HfApi) -> None:
    api.upload_file(repo_id=proven.MODEL, path_in_repo="README.md", path_or_fileobj=CARD.encode())
    world.release = world.client.release(proven.MODEL)
    world.stage(rewrite(world.build(), "prompt.json", lambda prompt: prompt.update(text=PROMPT)))
    report = world.promote()
    assert report.failures == ()
    text = Path(api.hf_hub_download(GGUF_REPO, "README.md")).read_text(encoding="utf-8")

    _, head, body = text.split("---\n", 2)
    said = yaml.safe_load(head)
    (build,) = report.publications[0].builds
    assert said["phi_bot"]["source"] == f"{proven.MODEL}@{world.release.commit}"
    assert said["phi_bot"]["builds"] == {"gguf/q4_k_m": build.build.build_key}
    assert said["base_model"] == proven.MODEL
    assert said["base_model_relation"] == "quantized"
    assert said["pipeline_tag"] == "text-generation"
    assert said["license_name"] == "mit --- # Owned"
    assert said["language"] == ["en"]
    assert not {"license_link", "widget", "inference", "extra_gated_prompt", "model-index"} & said.keys()
    assert all(tag.replace("-", "").replace("_", "").isalnum() for tag in said["tags"])

    assert "\u202e" not in text
    assert not [t for t in parse(body) if t.type == "html_block" and "script" in t.content]
    assert not [t for t in inlines(body) if "evil.example" in str(t.attrs)]
    headings = [
        after.content for t, after in zip(parse(body), parse(body)[1:], strict=False) if t.type == "heading_open"
    ]
    assert "Owned" not in headings
