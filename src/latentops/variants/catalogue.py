"""What there is to know of a variant without opening its file: its line, its options, its sources."""

import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentops.variants import NAMES, variant_class, variant_file
from latentops.variants.autoencoder import VariantSettings

CITATION = re.compile(
    r"[A-Z][\w’'-]+(?:(?:,? (?:& )?[A-Z][\w’'-]+)*,? & [A-Z][\w’'-]+| et al\.)?,? \(?(?:19|20)\d\d\b"
)
BOUNDS = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}


@dataclass(frozen=True)
class Option:
    """A key of the variant's section: the values it takes, its default, and what its Settings say of it."""

    key: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """A variant: where it is from, what it is in a line, its options and its sources."""

    name: str
    origin: str
    line: str
    sources: tuple[str, ...]
    options: tuple[Option, ...]


def describe(name: str) -> Entry:
    """What is said of variant `name`; options that every variant has are left out.

    Raises what `variant_class` raises.
    """
    variant = variant_class(name)
    text = " ".join((sys.modules[variant.__module__].__doc__ or inspect.getdoc(variant) or "").split())
    line = re.split(r"(?<=\.)\s", text, maxsplit=1)[0].removesuffix(".")
    origin = "built in" if name in NAMES else f"package {variant.__module__}"
    if name not in NAMES and (path := variant_file(name)) is not None:
        origin = os.path.relpath(path)
    shared = {option.key: option for option in options(VariantSettings)}
    own = tuple(option for option in options(variant.Settings) if option != shared.get(option.key))
    sources = tuple(dict.fromkeys(each.replace("(", "") for each in CITATION.findall(text)))
    return Entry(name, origin, line, sources, own)


def options(settings: type[VariantSettings]) -> list[Option]:
    """Every key of `settings`.

    What a key means is taken from the docstring, where that says "`key`: what it is; `other`: …".
    """
    schema = settings.model_json_schema()
    meanings = _meanings(" ".join((inspect.getdoc(settings) or "").split()), list(schema["properties"]))
    return [
        Option(
            key,
            values(part, schema.get("$defs", {})),
            _plain(part["default"]) if "default" in part else "required",
            part.get("description") or meanings.get(key, ""),
        )
        for key, part in schema["properties"].items()
    ]


def values(part: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """A part of a JSON schema in words: `number > 0`, `exact | estimate`, `list of integer ≥ 1`."""
    if "$ref" in part:
        return values(shared[part["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in part:
        return " or ".join(values(each, shared) for each in part["anyOf"])
    if "enum" in part or "const" in part:
        return " | ".join(map(_plain, part.get("enum", [part.get("const")])))
    if part.get("type") == "array":
        return f"list of {values(part.get('items') or part.get('prefixItems', [{}])[0], shared)}"
    kind = {"boolean": "true | false", "null": "null", "object": "mapping"}.get(
        part.get("type", ""), part.get("type", "any")
    )
    limits = [f"{sign}{part[key]:g}" for key, sign in BOUNDS.items() if key in part]
    return " ".join([kind, ", ".join(limits)]).strip()


def _meanings(text: str, keys: list[str]) -> dict[str, str]:
    """The words after each "`key`:", up to the next one."""
    parts = re.split(rf"`({'|'.join(map(re.escape, keys))})`: ", text)
    return {key: words.strip(" ;.") for key, words in zip(parts[1::2], parts[2::2], strict=True)}


def _plain(value: object) -> str:
    """A value as params.yaml has it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)
