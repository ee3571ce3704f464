"""The sample's card and license: what a publisher's repo has beside the model, and what cards inherit."""

from pathlib import Path

_CARD = """\
---
license: mit
license_link: LICENSE
language:
- multilingual
pipeline_tag: text-generation
library_name: transformers
tags:
- nlp
- code
widget:
- messages:
  - role: user
    content: Write one sentence about the sea.
---

# {title} sample

A very small model of the {title} architecture, with random beginnings and half a minute of training on a few pages of
text. It is good for one thing: trying out tools that convert, quantize and run Phi models. Do not ask it anything that
matters.

{features}

## License

MIT, see the file LICENSE.
"""

_LICENSE = """\
MIT License

Copyright (c) 2026 The phi-bot authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


_CHAT_FORMAT = """

## Chat format

```
{chat}
```"""


def write(out: Path, *, title: str, features: str, chat: str | None) -> None:
    """Write README.md and LICENSE into the folder ``out``; ``chat`` is an example of the chat format, if it has one."""
    if chat is not None:
        features += _CHAT_FORMAT.format(chat=chat)
    (out / "README.md").write_text(_CARD.format(title=title, features=features), encoding="utf-8")
    (out / "LICENSE").write_text(_LICENSE, encoding="utf-8")
