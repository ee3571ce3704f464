"""Fetching: what is not the model's is refused by a few bytes of its headers, before it is downloaded."""

from pathlib import Path

import pytest

from bot.building.release_at_hand import fetch
from bot.errors import OtherWeightsError
from bot.hub.client import Hub
from bot.progress import Silent
from tests.contexts import context_of
from tests.hub.faulty import Proxy
from tests.source import models

WEIGHTS = models.safetensors(models.TENSORS | {"v_head.summary.weight": ("BF16", [1000, 1000])})


def test_weights_of_another_class_are_not_downloaded(shaky: Hub, faulty: Proxy, tmp_path: Path) -> None:
    contents = models.files(model__safetensors=WEIGHTS)
    with Silent().task("") as task:
        shaky.commit("microsoft/Phi-9", files=contents, parent=None, message="Put", task=task)
    release = shaky.release("microsoft/Phi-9")
    faulty.seen.clear()
    with pytest.raises(OtherWeightsError, match=r"v_head\.summary\.weight"):
        fetch(release, context_of(hub=shaky, workspace=tmp_path))
    asked = [headers.get("range") for method, path, headers in faulty.seen if method == "GET" and "resolve" in path]
    assert asked == ["bytes=0-99999"]
    assert not list(tmp_path.rglob("*.safetensors"))
