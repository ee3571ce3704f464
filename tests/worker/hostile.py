"""Chat templates that mean harm."""

import pytest

from bot.records.artifacts import Json

MEBIBYTES = 2048

MUCH_MEMORY = """
{% set ns = namespace(texts=['spam', 'eggs']) %}
{% for i in range(40) %}{% set ns.texts = ns.texts + ns.texts %}{% endfor %}
"""
MUCH_TIME = """
{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}
{% endfor %}{% endfor %}{% endfor %}
"""
MUCH_TEXT = """
{% set ns = namespace(text='spam and eggs') %}
{% for i in range(30) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}{{ ns.text }}
"""
#: By what they are after. They run in any engine of templates.
TEMPLATES = {"time": MUCH_TIME, "memory": MUCH_MEMORY, "text": MUCH_TEXT}

#: What every engine is tried with. The sweep has them all.
KINDS = [pytest.param(k, marks=() if k == "memory" else pytest.mark.sweep) for k in TEMPLATES]

# Has a ``runtime`` render a conversation, and says what came of it and how many MiB the child had at most.
CODE = """
import resource, time
from bot.sandbox.rendering import LimitError
chat = {"name": "one", "messages": [{"role": "user", "content": "Hi"}], "tools": None, "add_generation_prompt": True}
began = time.monotonic()
try:
    said = str(runtime.render([chat]))[:100]
except LimitError as error:
    said = str(error)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
said = [said, peak, time.monotonic() - began]
"""


def stopped(said: Json) -> bool:
    """Say whether what CODE says is that a template was stopped within the limits, and print it."""
    print(said)
    message, peak, _ = said
    return bool(message.startswith(("it takes too much", "it writes too much")) and peak < MEBIBYTES)
