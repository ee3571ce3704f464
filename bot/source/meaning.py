"""The meaning of a config.json where libraries read it differently, written in the spelling that all of them read.

transformers decides what a model is, so what it reads otherwise than its keys say is refused. Only Phi's own classes
are looked at; of others nothing is known here.
"""

import math

from bot.errors import ConfigValueError, UnsupportedArchitectureError
from bot.records.artifacts import Json

# Phi models that transformers reads with its own code: architecture to model_type. What is not here, and brings code
# of its own, cannot be measured against the original without running that code.
NATIVE = {
    "PhiForCausalLM": "phi",
    "Phi3ForCausalLM": "phi3",
    "PhiMoEForCausalLM": "phimoe",
    "PhimoeForCausalLM": "phimoe",
    "Phi4MultimodalForCausalLM": "phi4_multimodal",
}
APART = (
    "A Phi whose matrices are apart is a Llama: set architectures to LlamaForCausalLM and model_type to llama, or "
    "join q_proj, k_proj and v_proj of each layer into qkv_proj, and gate_proj and up_proj into gate_up_proj."
)
RENAME = "Give the model in transformers' layout: its convert_phi_weights_to_hf.py renames the weights."
_CLASSES = {kind: name for name, kind in reversed(NATIVE.items())}  # Microsoft's own name where there are two
_SCALED = ("phi3", "phimoe")  # of which transformers reads no scaling but LongRoPE
_OLDER = {"phi-msft": "Phi-2", "mixformer-sequential": "Phi-1 and 1.5"}
_SWITCH, _LONGEST = "original_max_position_embeddings", "max_position_embeddings"
_CLOSE = 1e-3  # of two factors that are the same: some are written with few digits
_NOTHING = ("quantization_config", "compression_config")  # of these, some take null for something
_MOVED = ("rope_theta", "partial_rotary_factor", _SWITCH)  # inside of rope_parameters since transformers 5


def architecture(config: dict[str, Json]) -> str:
    """Return the model class that config.json names first, such as ``Phi3ForCausalLM``; "" if it names none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def meant_class(config: dict[str, Json]) -> str:
    """Return the model class that is meant: the one named first, or that of ``model_type`` where none is named."""
    return architecture(config) or _CLASSES.get(str(config.get("model_type")), "")


def normal(config: dict[str, Json], *, where: str) -> dict[str, Json]:
    """Return a configuration in the spelling that all libraries read alike: the same one where it has it already.

    Raises UnsupportedArchitectureError for a model that transformers cannot read without code of its own, and
    ConfigValueError where two keys contradict each other, or one is missing that readers would make up.
    """
    found = {k: v for k, v in config.items() if k not in _NOTHING or v is not None}
    if found.get("transformers_weights") is not None:
        raise ConfigValueError(
            f"config.json of {where}: transformers_weights names the file of the weights, which converters ignore",
            hint="Call that file model.safetensors, remove any other file of that name, and leave the key out.",
        )
    _name_class(found, where)
    if found.get("model_type") in (*_SCALED, "phi"):
        _spell_rope(found, where)
    return found


def respelled(config: dict[str, Json]) -> dict[str, Json]:
    """Return a configuration with the kind of rope scaling as it is called now.

    LongRoPE is what Phi-3 first called ``su``, or ``yarn``. YaRN itself has no factors for short and long contexts.
    """
    return config | {
        k: _renamed(config[k]) for k in ("rope_scaling", "rope_parameters") if isinstance(config.get(k), dict)
    }


def check_class(config: dict[str, Json], *, where: str) -> None:
    """Raise UnsupportedArchitectureError for a model that is not of Phi's classes, whatever tools could make of it."""
    name = architecture(config)
    if not name or name.startswith("Phi") or config.get("model_type") in NATIVE.values():
        return
    raise UnsupportedArchitectureError(
        f"{where} is a model of the class {name[:60]!a}, and phi-bot takes Phi's own classes only",
        hint="Give a Phi in its own class, or one that was saved as a Llama or a Mistral.",
    )


def _name_class(config: dict[str, Json], where: str) -> None:
    """Make architectures and model_type agree: transformers and mlx-lm go by the one, llama.cpp by the other."""
    name, kind = architecture(config), config.get("model_type")
    if isinstance(kind, str) and kind in _OLDER:
        raise UnsupportedArchitectureError(
            f"{where} is {_OLDER[kind]} in an older layout (model_type {kind!r}), which only code of its own reads",
            hint=RENAME,
        )
    if not name and (meant := meant_class(config)):
        config["architectures"] = [meant]
    elif name in NATIVE and kind is None:
        config["model_type"] = NATIVE[name]
    elif name in NATIVE and kind != NATIVE[name] and kind in NATIVE.values():
        raise _contradiction(where, f"architectures is {name}, and model_type is {kind!a}", f"{NATIVE[name]!r}")


def _spell_rope(config: dict[str, Json], where: str) -> None:
    """Leave one spelling of the rotary embeddings' settings: the kind that is meant, and no value twice."""
    given = {key: config[key] for key in ("rope_scaling", "rope_parameters") if config.get(key)}
    settings = {key: _agreeing(value, where, key) for key, value in given.items() if isinstance(value, dict)}
    both = tuple(settings.values())
    if len(both) == 2 and both[0] != both[1]:
        raise _contradiction(where, "rope_scaling and rope_parameters differ", "one of them, without the other")
    for key in ("rope_scaling", "rope_parameters"):
        if key in settings:
            config[key] = settings[key]
        elif key in config and settings:  # an empty one beside it, which some read
            del config[key]
    owner, inner = next(iter(settings.items()), ("rope_scaling", {}))
    for key in _MOVED:
        if config.get(key) is not None and inner.get(key) is not None and config[key] != inner[key]:
            what = f"{key} is {config[key]!a}, and {owner}.{key} is {inner[key]!a}"
            raise _contradiction(where, what, "one of them")
    _check_kind(config, owner, inner, where)


def _renamed(settings: dict[str, Json]) -> dict[str, Json]:
    long = "short_factor" in settings and "long_factor" in settings
    older = ("su", "yarn") if long else ("su",)
    return settings | {k: "longrope" for k in ("rope_type", "type") if settings.get(k) in older}


def _agreeing(settings: dict[str, Json], where: str, key: str) -> dict[str, Json]:
    """Return settings with the kind as it is called now. Raises ConfigValueError where they give two kinds."""
    found = _renamed(settings)
    if None not in (kinds := (found.get("rope_type"), found.get("type"))) and kinds[0] != kinds[1]:
        what = f"{key}.rope_type is {settings['rope_type']!a}, and {key}.type is {settings['type']!a}"
        raise _contradiction(where, what, "one of them")
    return found


def _check_kind(config: dict[str, Json], owner: str, rope: dict[str, Json], where: str) -> None:
    """Hold the kind of scaling against what transformers reads, and see that no reader makes up the switch."""
    kind, model = rope.get("rope_type", rope.get("type")) or "default", config["model_type"]
    if model in _SCALED and kind not in ("default", "longrope"):
        raise ConfigValueError(
            f"config.json of {where}: the type of {owner} is {str(kind)[:40]!a}, and transformers reads only longrope "
            f"in a {model}",
            hint="Set it to what the original model has.",
        )
    if kind == "longrope":
        if config.get(_SWITCH) is None and rope.get(_SWITCH) is None:
            raise _missing(
                where, f"{_SWITCH} is missing: the position from which the longrope of {owner} takes its long factors"
            )
        if config.get(_SWITCH) is None:  # transformers would take its own default for Phi-3
            config[_SWITCH] = rope[_SWITCH]
        absent = [k for k in ("short_mscale", "long_mscale") if rope.get(k) is None]
        if model == "phimoe" and absent:
            raise _missing(where, f"{owner}.{absent[0]} is missing, which a mixture of experts needs")
        if model == "phi3":
            _check_scale(config, owner, rope, where)
    elif model in _SCALED and type(config.get(_LONGEST)) is int:
        config[_SWITCH] = config[_LONGEST]  # nothing switches; converters ask for it all the same, and go by it


def _check_scale(config: dict[str, Json], owner: str, rope: dict[str, Json], where: str) -> None:
    """See that LongRoPE's factors are those of its two lengths: transformers takes what is given, converters do not."""
    longest, switch = config.get(_LONGEST), config[_SWITCH]
    if type(longest) is not int:
        return
    factor = longest / switch
    scale = math.sqrt(1 + math.log(factor) / math.log(switch)) if factor > 1 else 1.0
    for key, meant in (("factor", factor), ("attention_factor", scale)):
        given = rope.get(key)
        if given is not None and not math.isclose(given, meant, rel_tol=_CLOSE):
            raise ConfigValueError(
                f"config.json of {where}: {owner}.{key} is {given:g}, and by {_LONGEST} and {_SWITCH} it is "
                f"{meant:.4g}; readers take either",
                hint=f"Leave {key} out, unless the model was trained with that one.",
            )


def _missing(where: str, what: str) -> ConfigValueError:
    return ConfigValueError(f"config.json of {where}: {what}", hint="Set it to what the original model has.")


def _contradiction(where: str, what: str, keep: str) -> ConfigValueError:
    return ConfigValueError(f"config.json of {where}: {what}; readers take either", hint=f"Keep {keep}.")
