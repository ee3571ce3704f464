"""Values that formats read from a Phi's config.json. It is untrusted: any value may be of any type."""

from bot.records.artifacts import Json


def architecture(config: dict[str, Json]) -> str:
    """Return the first of ``architectures``, or "" when it names none."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else ""
    return first if isinstance(first, str) else ""


def rope_scaling(config: dict[str, Json]) -> dict[str, Json]:
    """Return the rope settings: of the key that Microsoft's configs use, or of the one that transformers 5 writes."""
    settings = config.get("rope_scaling") or config.get("rope_parameters")
    return settings if isinstance(settings, dict) else {}


def rope_type(config: dict[str, Json]) -> str:
    """Return the kind of rope scaling, ``default`` when there is none. ``su`` is the older name of ``longrope``."""
    settings = rope_scaling(config)
    kind = settings.get("rope_type") or settings.get("type") or "default"
    return "longrope" if kind == "su" else str(kind)


def is_longrope(config: dict[str, Json]) -> bool:
    """Say whether the model has one set of rotary factors for short contexts and another for long ones."""
    return rope_type(config) == "longrope"


def number(config: dict[str, Json], key: str, otherwise: int) -> int:
    """Return a positive whole number of the config, or ``otherwise`` where it has none."""
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else otherwise


def unsupported(config: dict[str, Json], tool: str, supported: dict[str, str]) -> str | None:
    """Say in one line why ``tool`` cannot build such a model, or return None.

    ``supported`` maps architectures to what people call them.
    """
    name = architecture(config)
    if name in supported:
        return None
    models = ", ".join(dict.fromkeys(supported.values()))
    if name and not name.startswith("Phi"):
        return f"phi-bot takes Phi's own classes only, and the model is a {name}; with {tool} it builds {models}"
    return f"{tool} does not support {name or 'a model that names no architecture'}; of the Phi models it has {models}"


def odd_head(config: dict[str, Json], tool: str) -> str | None:
    """Say in one line that ``tool`` derives the size of a head, where a config gives another one, or return None."""
    given, width = config.get("head_dim"), config.get("hidden_size")
    derived = number(config, "hidden_size", 0) // number(config, "num_attention_heads", 1)
    if given is None or not derived or given == derived:
        return None
    return (
        f"{tool} takes heads of hidden_size / num_attention_heads = {width} / {config.get('num_attention_heads')} "
        f"dimensions, and head_dim is {given}"
    )


def odd_rows(config: dict[str, Json], multiple: int, tool: str) -> str | None:
    """Say in one line that ``tool`` wants the rows of matrices to be a multiple of a number long, or return None."""
    for key in ("hidden_size", "intermediate_size"):
        size = config.get(key)
        if isinstance(size, int) and size % multiple:
            return f"{tool} wants {key} to be a multiple of {multiple}, and it is {size}"
    return None
