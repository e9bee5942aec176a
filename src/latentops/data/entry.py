"""A new entry under `datasets:` of params.yaml: what a person would write, with a comment where one helps.

The file is added to as text: nothing else in it moves, and no comment is lost.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from latentops import atomic
from latentops.config import Params, Source, load_params, parse
from latentops.data.profile import Profile
from latentops.errors import ConfigError

_COMMENT = 41  # column at which comments begin
_PHOTOGRAPH = 64  # pixels of a side from which on pictures are told apart well by their perceptual hash
_EXPECTED = 20  # rows of each class in each split from which on none of it is a fault, not chance
_CALIBRATION = 0.2  # share that is given to it without being asked to
_MOST = 0.4  # that it is ever given
_NORMALS = 24  # to calibrate on: 19 are needed to promise a false-alarm rate of 5 %, and shares are rounded


def propose(
    source: Source,
    profile: Profile,
    trainable: Mapping[str | None, int],
    expectations: Mapping[str, object],
    hints: Mapping[str, object],
) -> dict[str, object]:
    """The settings of a dataset with that source and profile; `hints` (normal, primary, split, …) go first.

    Names are those of `config.Dataset`. `trainable` are the rows of each class that aren't an official
    test's: a class of too few to calibrate on is called normal only where the hints say so. What isn't said
    is chosen by kind, size and classes alone.
    """
    classes = sorted(profile.classes, key=lambda name: (-profile.classes[name], name))
    normal = hints.get("normal")
    if not isinstance(normal, list):
        views = 3 if len(classes) > 2 and profile.kind != "text" else 1  # texts take long to train on
        enough = [name for name in classes if trainable[name] * _CALIBRATION >= _NORMALS]
        normal = enough[:views] if len(classes) > 1 else []
    primary = hints.get("primary") or _primary(source, classes, hints)
    if primary != "auroc":
        normal = [name for name in normal if trainable[name] * _MOST >= _NORMALS]
    longest = profile.lengths[2] if profile.lengths else 0
    architecture = {"image": "convolutional", "tabular": "mlp", "text": "recurrent"}.get(
        profile.kind, "convolutional" if longest > 32 else "recurrent"
    )
    split = hints.get("split") or {}
    if not isinstance(split, dict):
        raise TypeError(f"split is a section, not {split!r}")
    inputs = {"tabular": len(profile.inputs)}.get(profile.kind, 64)
    scaling: object = "standard"
    if source.value_range is not None:
        scaling = "range"
    elif profile.kind == "text":
        scaling = {"name": "tokens", "vocabulary": 500, "longest": 32}
    likelihood = {"text": "categorical", "tabular": "mixed" if _mixed(profile) else "gaussian"}.get(
        profile.kind, "gaussian"
    )
    split = _split(source, profile, min((trainable[name] for name in normal), default=0)) | split
    shares = [share for key in ("stop", "calibration", "test") if isinstance(share := split[key], float)]
    fewest = min((trainable[name] for name in classes), default=0)
    told = {"min_split_rows": 1} if split.get("by") != "time" and fewest * min(shares) >= _EXPECTED else {}
    return {
        "source": source.model_dump(mode="json", exclude_defaults=True),
        "expectations": {**expectations, **told},
        "scaling": scaling,
        "likelihood": likelihood,
        "split": split,
        "normal": normal,
        "primary": primary,
        "architecture": architecture,
        "architectures": {
            **({"embedding": 32} if profile.kind == "text" else {}),
            "mlp": {"hidden": [128, 64] if profile.kind != "tabular" else [64]},
            "convolutional": {"channels": [8, 16]},
            "recurrent": {"cell": "gru", "hidden": 32},
            "transformer": {"width": 32},
        },
        "latent_dim": min(16, max(2, inputs // 3)),
    }


def _primary(source: Source, classes: Sequence[str], hints: Mapping[str, object]) -> str:
    if source.numeric_label:
        return "r2"
    if source.label is None or len(classes) < 2:
        return "none"
    return "auroc" if hints.get("normal") else "probe_accuracy"


def _mixed(profile: Profile) -> bool:
    return any(column.type in ("categorical", "boolean") or column.missing for column in profile.inputs)


def _split(source: Source, profile: Profile, normals: int) -> dict[str, object]:
    """Shares that leave enough of the least normal class to calibrate on, by what fits the source."""
    wanted = _NORMALS / normals if normals else 0.0
    calibration = round(min(_MOST, max(0.12, wanted)), 2)
    stop, test = (0.15, 0.25) if calibration <= _CALIBRATION else (0.1, 0.2)
    shares: dict[str, object] = {"seed": 0, "stop": stop, "calibration": calibration, "test": test}
    read = source.read
    if any(file.part for file in source.files) or (read is not None and read.part):
        return {**shares, "test": "official"}
    if source.time is not None and read is not None and read.format not in ("long", "folder"):
        return {**shares, "by": "time"}
    if profile.kind == "image":
        large = profile.sizes is not None and min(profile.sizes[0]) >= _PHOTOGRAPH
        return {**shares, "near": 6 if large else 2}
    return {**shares, "by": "hash"} if profile.rows >= 1000 else shares


COMMENTS = {
    "source": "where rows come from, and what they are",
    "source.name": "an embedded set, or file: the files below",
    "source.kind": "image, tabular, sequence or text",
    "source.label": "column of the class, or of the number; it never reaches a model",
    "source.label_type": "categorical: a class; numeric: a number, told from a code by ridge regression",
    "source.group": "rows of one stay on one side of a split",
    "source.time": "what a split by time goes by",
    "source.channels": "of a picture, or of a sequence's step",
    "source.value_range": "least and greatest that a value may be",
    "source.files": "under LATENTOPS_MIRROR, in the project, or where the path says",
    "source.files.path": "a file or a folder",
    "source.files.sha256": "of its bytes, of a folder of its listing; another is refused",
    "source.files.url": "official address, where it is fetched from if it isn't at hand",
    "source.files.member": "its name in the archive that is there",
    "source.files.part": "train or test: the side of an official split",
    "source.read": "how the files become rows",
    "source.read.format": "csv, parquet, array, idx, cifar, images, ts, long, folder, series or lines",
    "source.read.delimiter": "between cells",
    "source.read.encoding": "of the text",
    "source.read.decimal": "the sign before decimals",
    "source.read.quote": "around cells that hold a delimiter",
    "source.read.skip": "lines before the first that counts",
    "source.read.comment": "what lines begin with that don't count",
    "source.read.header": "the columns' names, where the file doesn't have them",
    "source.read.missing": "cells that say that a value isn't there, besides empty ones",
    "source.read.dates": "how dates are written that aren't in ISO 8601: %d/%m/%Y, or {column: %d/%m/%Y}",
    "source.read.relabel": "labels that are put in place of others",
    "source.read.part": "column that says train or test",
    "source.read.values": "array of an .npz that holds the samples",
    "source.read.labels": "and that with their classes; null: none",
    "source.read.size": "[height, width] that pictures are brought to",
    "source.read.fit": "how: resize, crop, or tile, which cuts each into several",
    "source.read.colour": "three channels; else grey",
    "source.read.group": "expression on names, whose first group says which pictures are of one thing",
    "source.read.id": "column that says which sequence a step is of",
    "source.read.window": "steps of a window",
    "source.read.stride": "steps from one window to the next",
    "source.read.every": "seconds from step to step",
    "source.read.marks": "file of each series' anomalous windows",
    "source.columns": "that reach a model, with their types: numeric, categorical, boolean or date",
    "source.drop": "known, and passed over",
    "source.text": "columns that make up a text, in this order",
    "source.values": "columns that a sequence's steps are made of",
    "expectations": "what breaks one of a row sets the row aside",
    "expectations.min_rows": "fewer stop the pipeline",
    "expectations.max_rows": "more stop it",
    "expectations.max_quarantined": "a larger share of bad rows stops the pipeline",
    "expectations.classes": "none where there is no label, or where it is a number",
    "expectations.min_class_share": "a class with a smaller share stops the pipeline",
    "expectations.min_split_rows": "fewer of a class in a split stop it",
    "expectations.columns": "closed ranges a row's values, or its label, must lie in",
    "expectations.categories": "values a row may have",
    "expectations.missing": "share of a column's values that may be; more stop the pipeline",
    "expectations.unique": "columns in which nothing comes twice; .name: a row's name, .row: all of it",
    "expectations.lengths": "least and most steps of a sequence",
    "expectations.sizes": "least and greatest [height, width] of a picture, as it is in its file",
    "expectations.max_drift": "of a column from the accepted version, 0 to 1; more stops it",
    "expectations.leak": "a column that predicts the label alone is told from here on: 0 guesses, 1 knows",
    "expectations.max_leak": "and from here on it stops the pipeline",
    "scaling": "of numbers standard, robust, power, quantile or range; of text tokens",
    "scaling.name": "the same, where there is more to say",
    "scaling.categories": "that are kept of a column, the most frequent in training rows",
    "scaling.buckets": "that the others share by their hash",
    "scaling.orientations": "of edges, so many further channels for each of an image's",
    "scaling.vocabulary": "most tokens that are learned",
    "scaling.longest": "most tokens that are kept of a text",
    "likelihood": "gaussian, huber, bernoulli (in [0, 1]), mixed (categories, gaps) or categorical (tokens)",
    "split": "shares; the rest is train",
    "split.seed": "keys what is drawn",
    "split.stop": "chooses weights, variant and member",
    "split.calibration": "sets thresholds",
    "split.test": "judges, and nothing else; official: the test part that the source has",
    "split.by": "rank (exact shares), hash (a row stays where it is whatever comes) or time (test is latest)",
    "split.cuts": "the three moments between the splits by time, in place of shares",
    "split.near": "pictures whose perceptual hashes differ in no more of 64 bits stay on one side",
    "normal": "classes called normal, one view of the members each",
    "primary": "what the champion is chosen by: probe_accuracy, auroc, r2 of a numeric label, or none",
    "architecture": "what a variant's `architecture: auto` means here",
    "architectures": "sizes, the same for every variant; digits has all their keys",
    "latent_dim": "size of the code",
}
"""What each key of an entry means: beside its line in an entry, and, all together, in docs/your-data.md."""


def text(name: str, settings: Mapping[str, object], title: str, remarks: Mapping[str, str]) -> str:
    """The entry as YAML, a key a line, its comments with it; `remarks` are on columns, by name."""
    lines = [_line(2, f"{_scalar(name)}:", title)]
    for key, value in settings.items():
        lines += _lines(key, value, 4, key, remarks)
    return "\n".join(lines) + "\n"


def _lines(key: str, value: object, indent: int, path: str, remarks: Mapping[str, str]) -> list[str]:
    comment = COMMENTS.get(path, "")
    deep = path in (
        "source",
        "expectations",
        "source.columns",
        "source.read",
        "expectations.columns",
        "expectations.categories",
        "expectations.missing",
    )
    name = _scalar(key)
    if path == "source.files" and isinstance(value, list):
        return [
            _line(indent, f"{name}:", comment),
            *(_line(indent + 2, f"- {_flow(each)}") for each in value),
        ]
    if path == "source.drop" and isinstance(value, list):
        return (
            [
                _line(indent, f"{name}:", comment),
                *(_line(indent + 2, f"- {_scalar(each)}", remarks.get(str(each), "")) for each in value),
            ]
            if value
            else []
        )
    if deep and isinstance(value, Mapping) and value:
        lines = [_line(indent, f"{name}:", comment)]
        for inner, each in value.items():
            if path.startswith(("source.columns", "expectations.")):
                told = remarks.get(str(inner), "") if path == "source.columns" else ""
                lines.append(_line(indent + 2, f"{_scalar(inner)}: {_flow(each)}", told))
            else:
                lines += _lines(str(inner), each, indent + 2, f"{path}.{inner}", remarks)
        return lines
    return [_line(indent, f"{name}: {_flow(value)}", comment)]


def _line(indent: int, content: str, comment: str = "") -> str:
    line = " " * indent + content
    return f"{line:<{_COMMENT - 2}}  # {' '.join(comment.split())}" if comment else line


def _scalar(value: object) -> str:
    return yaml.safe_dump(value, allow_unicode=True, width=2**30).removesuffix("\n").removesuffix("\n...")


def _flow(value: object) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=2**30)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def add(path: Path, name: str, entry: str) -> None:
    """Put the `entry` of dataset `name` at the end of `datasets:` in `path`, its name into `run.datasets`.

    Raises `ConfigError`, and leaves the file as it was, where the name is taken, or where the file with it
    wouldn't be one that can be used.
    """
    with atomic.alone(path.parent):
        _put(path, _with(path, name, entry))


def remove(path: Path, name: str) -> None:
    """Take dataset `name` out of `path`, after whose others `add` has put it."""
    with atomic.alone(path.parent):
        text_ = _written(path)
        root = yaml.compose(text_, Loader=yaml.SafeLoader)
        listed, sections = _value(_value(root, "run"), "datasets"), _value(root, "datasets")
        names = [each.value for each in listed.value]
        keys = [key.value for key, _ in sections.value]
        item, before = listed.value[names.index(name)], listed.value[names.index(name) - 1]
        _, entry = sections.value[keys.index(name)]
        _, above = sections.value[keys.index(name) - 1]
        end = (lambda node: node.end_mark.index) if _braced(listed) else (lambda node: _line_end(text_, node))
        cuts = [(end(before), end(item)), (_line_end(text_, above), _line_end(text_, entry))]
        for start, stop in sorted(cuts, reverse=True):
            text_ = text_[:start] + text_[stop:]
        _put(path, text_)


def _with(path: Path, name: str, entry: str) -> str:
    """The text of params.yaml with that entry in it."""
    before = _written(path)
    if name in load_params(path).datasets:
        raise ConfigError(
            f"{path}: datasets.{name} is there already; choose another with --name, or remove it"
        )
    root = yaml.compose(before, Loader=yaml.SafeLoader)
    listed, sections = _value(_value(root, "run"), "datasets"), _value(root, "datasets")
    if _braced(root) or _braced(sections):
        raise ConfigError(
            f"{path}: datasets: is written in braces, to which nothing is added; give each a line"
        )
    last = listed.value[-1]
    if _braced(listed):
        at, item = last.end_mark.index, f", {_scalar(name)}"
    else:
        at = _line_end(before, last)
        start = last.start_mark
        item = f"\n{before[start.index - start.column : start.index]}{_scalar(name)}"
    column = sections.value[0][0].start_mark.column
    lines = [" " * column + line[2:] if line else "" for line in entry.splitlines()]
    end = _line_end(before, sections)
    inserted = sorted([(at, item), (end, "\n\n" + "\n".join(lines))], reverse=True)
    after = before
    for place, text_ in inserted:
        after = after[:place] + (text_.replace("\n", "\r\n") if "\r\n" in before else text_) + after[place:]
    return after


def _braced(node: yaml.Node | None) -> bool:
    """Whether a list or a mapping stands in brackets or braces."""
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _line_end(text_: str, node: yaml.Node) -> int:
    """Where the last line of a node ends; comments after it aren't its own."""
    while isinstance(node, yaml.CollectionNode) and not _braced(node) and node.value:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    end = node.end_mark.index
    if text_[end - 1 : end] == "\n":  # a block of text ends where the next line begins
        return end - 1 - (text_[end - 2 : end - 1] == "\r")
    found = re.compile(r"\r?\n|\Z").search(text_, end)
    return found.start() if found is not None else len(text_)


def _written(path: Path) -> str:
    """The text of a file with its line ends as they are."""
    return path.read_bytes().decode("utf-8")


def _put(path: Path, text_: str) -> None:
    """Write params.yaml, if it can be used so."""
    try:
        value = yaml.safe_load(text_)
    except yaml.YAMLError:
        raise ConfigError(
            f"{path}: is written in a way that nothing can be added to; give each key a line"
        ) from None
    parse(Params, value, str(path))
    atomic.write_text(path, text_)


def repin(path: Path, name: str, checksums: Mapping[str, str]) -> None:
    """Put other SHA-256 into the files of dataset `name`, by their paths; all else stays as it is written."""
    with atomic.alone(path.parent):
        text_ = _written(path)
        root = yaml.compose(text_, Loader=yaml.SafeLoader)
        source = _value(_value(_value(root, "datasets"), name), "source")
        files = list(_value(source, "files").value)
        with suppress(KeyError):
            files.append(_value(_value(source, "read"), "marks"))
        places = [(_value(file, "sha256"), checksums.get(_value(file, "path").value)) for file in files]
        for node, checksum in sorted(places, key=lambda place: -place[0].start_mark.index):
            if checksum is not None:  # quoted: one of digits alone would be a number
                start, end = node.start_mark.index, node.end_mark.index
                text_ = (
                    text_[:start]
                    + (checksum if checksum.strip("0123456789e") else repr(checksum))
                    + text_[end:]
                )
        _put(path, text_)


def _value(node: yaml.Node | None, key: str) -> yaml.Node:
    """What a mapping has at `key`."""
    for each, value in node.value if node is not None else ():
        if each.value == key:
            found: yaml.Node = value
            return found
    raise KeyError(key)
