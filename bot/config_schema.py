"""What the dataclasses of a TOML file say of it: its JSON schema, and the text of a file that explains every key."""

import dataclasses
import json
import textwrap
import typing
from typing import Any

from bot.config_file import ANY_NAME, field_of, hint_and_key, keys, required, schema_of, table_by_name


def json_schema(cls: type, *, title: str) -> dict[str, Any]:
    """Return the JSON schema of the whole file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_table_schema(cls)}


def template(cls: type) -> str:
    """Return the text of a file that explains every key, and sets those alone that have a value for it."""
    lines = [
        *_comment(_doc(cls)),
        *_comment(
            "Remove the # before a key to set it. What is shown is its default, or an example where it has none."
        ),
    ]
    table_cls: type | None = None
    for at, owner in keys(cls):
        if owner is not table_cls:
            table_cls = owner
            mark = "# " if ANY_NAME in at else ""
            lines += ["", f"{mark}[{'.'.join(at[:-1])}]", *_comment(_doc(owner))]
        _, rule = hint_and_key(owner, at[-1])
        line = f"# {at[-1]} = {shown_default(owner, at[-1])}"
        if rule.init is not None:
            line = f"{at[-1]} = {json.dumps(rule.init)}"
        lines += [*([""] if rule.help else []), *_comment(rule.help), line]
    return "\n".join(lines) + "\n"


def shown_default(cls: type, name: str) -> str:
    """Return a key's default in TOML, or an example where the default is nothing or depends on the machine."""
    _, rule = hint_and_key(cls, name)
    # JSON's strings, numbers and lists of them are TOML's too.
    return json.dumps(field_of(cls, name).default if rule.example is None else rule.example)


def _table_schema(cls: type) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if named := table_by_name(hint):
            _, rule = hint_and_key(cls, name)
            properties[name] = {
                "description": rule.help,
                "type": "object",
                "propertyNames": rule.rules,
                "additionalProperties": _table_schema(named),
            }
        elif dataclasses.is_dataclass(hint):
            properties[name] = _table_schema(typing.cast("type", hint))
        else:
            field, (bare, rule) = field_of(cls, name), hint_and_key(cls, name)
            described = {"description": f"{rule.help} Allowed: {rule.allowed}.".strip(), **schema_of(bare, rule)}
            default = {} if field.default in (dataclasses.MISSING, None) else {"default": field.default}
            properties[name] = described | default
    schema = {"description": _doc(cls), "type": "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": needed} if (needed := required(cls)) else {})


def _doc(cls: type) -> str:
    return (cls.__doc__ or "").replace("``", "`")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
