"""A person's rows: leave them out from now on, and say what still holds them and how to be rid of each.

Rows are found by their ids in every version of the raw table that git knows: of each version, once, what DVC
has is read. Where its tables have them, so has what was made of those: prepared rows, models, results.
"""

import json
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from latentops.config import Dataset, Source, load_params
from latentops.data import forgotten, sources, table
from latentops.data.fetch import locate
from latentops.data.forgotten import Ids
from latentops.data.history import WORKSPACE, Revision
from latentops.data.table import Layout
from latentops.errors import DataError, LatentOpsError, RegistryError

ACCEPTED = Path("data/accepted")
INCOMING = Path("data/incoming")
LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Holding:
    """Something that holds the rows: what it is, where, and the command that is rid of it.

    `paths` are what of it has them, where that is more than `where` says.
    """

    what: str
    where: str
    command: str
    paths: Sequence[str] = ()

    def __str__(self) -> str:
        """All of it in a line, and below it a line a path."""
        return "\n".join(
            [f"{self.what}: {self.where} → {self.command}", *(f"  {path}" for path in self.paths)]
        )


class Version:
    """A dataset as one or more commits have it, or the workspace: its outs by md5, and its tables.

    `outs` is None where what DVC wrote there can't be read.
    """

    def __init__(self, dataset: str, commits: list[str], outs: Mapping[str, str] | None) -> None:
        self.dataset = dataset
        self.commits = commits
        self.outs = outs
        self.raw: int | None = None
        """Rows of the raw table that are to be forgotten; None where that table is nowhere."""
        self.splits: Counter[str] | None = None
        """Those of them that were split, by split; None where that isn't known."""

    @property
    def name(self) -> str:
        """Its commits, for a person."""
        more = f" and {len(self.commits) - 3} more" if len(self.commits) > 3 else ""
        return ", ".join(self.commits[:3]) + more

    def parts(self) -> Iterator[tuple[pa.Table, Layout]]:
        """The raw rows; `DataError` where they are nowhere."""
        if self.outs is None:
            raise DataError(f"{self.name}: what DVC had there can't be read")
        revision = Revision(self.commits[0].split()[0])
        label = revision.label(self.dataset)
        with revision.open(f"data/raw/{self.dataset}.parquet", f"ingest@{self.dataset}") as file:
            for at in range(file.num_row_groups):
                part = file.read_row_group(at)
                yield part, table.layout_of(part, label)

    def count(self, hashes: Collection[bytes]) -> None:
        """Count the rows of `hashes` that it has; to be called where there are `parts`."""
        self.raw = sum(forgotten.held(part, layout, hashes).true_count for part, layout in self.parts())
        revision = Revision(self.commits[0].split()[0])
        try:
            with revision.open(f"data/splits/{self.dataset}.parquet", f"prepare@{self.dataset}") as file:
                rows = file.read(columns=["id", "split"])
        except DataError:
            return
        there = pc.is_in(table.whole(rows.column("id")), value_set=pa.array(sorted(hashes), pa.binary(32)))
        self.splits = Counter(table.whole(rows.column("split")).filter(there).to_pylist())

    def holding(self) -> dict[str, str]:
        """Those of its outs that have the rows, as far as can be told, with their md5."""
        clean = None if self.splits is None else self.splits.total()
        taught = None if self.splits is None else self.splits["train"] + self.splits["stop"]
        aside = None if self.raw is None or clean is None else self.raw - clean
        counts = dict.fromkeys(("clean", "prepared", "splits", "results"), clean)
        counts |= {"models": taught, "quarantine": aside}
        found = {}
        for path, md5 in (self.outs or {}).items():
            head, *rest = PurePosixPath(path).parts
            if self.raw != 0 and counts.get(rest[0] if head == "data" else head, self.raw) != 0:
                found[path] = md5
        return found


@dataclass(frozen=True)
class Forgotten:
    """What became of `ids`.

    `rows` of the workspace are meant by them, and `alike` more have the same values as one that is. `fresh`
    hashes were added to the list and the files `rewritten` (or would be). `unread` names versions whose rows
    are nowhere, `passed_over` counts commits beyond the limit.
    """

    rows: int
    alike: int
    fresh: int
    rewritten: Sequence[Path]
    holdings: Sequence[Holding]
    unread: Sequence[str]
    passed_over: int


def forget(dataset: str, ids: Ids, limit: int | None = None, *, trying: bool = False) -> Forgotten:
    """Leave the rows that `ids` mean out of all data to come, and list what still holds them.

    Their hashes go into `data/accepted/<dataset>/forgotten.txt`, and files of accepted rows are written again
    without them. Of the commits the newest `limit` are looked at, or all. With `trying` nothing is changed.
    Raises `UnknownNameError` for a dataset that isn't there, and `DataError` where an id is nowhere to be
    found, DVC is at work or its lock file can't be read: then nothing is changed either.
    """
    settings = load_params().dataset(dataset)
    with _still(dataset):
        found, hashes = _find(dataset, settings, ids, limit)
        if not trying:
            forgotten.add(ACCEPTED / dataset, hashes)
    for path in [] if trying else found.rewritten:
        _rewrite(path, settings.source, hashes)
    return found


@contextmanager
def _still(dataset: str) -> Iterator[None]:
    """Hold off DVC, which writes its lock file in place, and refuse where it runs a stage."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo
    from dvc.rwlock import rwlock

    with ExitStack() as held:
        try:
            repo = held.enter_context(Repo())
            held.enter_context(lock_repo(repo))
            # While a stage's command runs, its lock is let go: what it reads and writes is noted here.
            hardlink = repo.config["core"].get("hardlink_lock", False)
            with rwlock(repo.tmp_dir, repo.fs, "latentops forget", [], [repo.root_dir], hardlink):
                pass
        except LockError:
            raise DataError(
                f"{dataset}: DVC is at work here, as `make repro` has it, and what holds the rows is still "
                "being written; try again after it. Nothing was changed"
            ) from None
        except DvcException as error:
            raise DataError(
                f"{dataset}: {' '.join(str(error).split())}; run from the project's root"
            ) from None
        yield


def _find(dataset: str, settings: Dataset, ids: Ids, limit: int | None) -> tuple[Forgotten, set[bytes]]:
    """What there is of the rows that `ids` mean, and their hashes; nothing is changed."""
    here, earlier, passed_over = versions(dataset, settings.source, limit)
    known = forgotten.read(ACCEPTED / dataset)
    incoming = dict(_incoming(dataset, settings.source))

    hashes, rows, unread = ids.known(known), 0, []
    for version in (here, *earlier):
        try:
            for part, layout in version.parts():
                meant = ids.meant(part, layout, ids.lines if version is here else ())
                hashes |= forgotten.hashes(part.filter(meant), layout)
                rows += meant.true_count if version is here else 0
        except DataError:
            unread.append(version)
    left = ids.lines - ids.found
    for part, layout in _outside(settings.source, incoming.values()):
        hashes |= forgotten.hashes(part.filter(ids.meant(part, layout, left)), layout)
    if unknown := sorted(ids.lines - ids.found):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{dataset}: no row goes by {', '.join(map(repr, unknown[:5]))}{more}, here or in any version "
            "that git knows; an id is a group, a name, a row's id or source:position. Nothing was changed"
        )
    for version in (here, *earlier):
        if version not in unread:
            version.count(hashes)
    accepted = list(_accepted(dataset, settings.source, hashes))
    found = Forgotten(
        rows=rows,
        alike=(here.raw or 0) - rows,
        fresh=len(hashes - known),
        rewritten=accepted,
        holdings=[
            *_workspace(here),
            *_source(dataset, settings.source, hashes),
            *_files(dataset, incoming, settings, hashes),
            *_committed(settings.source),
            *_versions(earlier),
            *_caches([here, *earlier]),
            *_models(dataset, [here, *earlier]),
        ],
        unread=[version.name for version in unread if version is not here],
        passed_over=passed_over,
    )
    return found, hashes


def versions(dataset: str, source: Source, limit: int | None) -> tuple[Version, list[Version], int]:
    """The workspace, and each version that commits have, the newest first; how many commits were left out.

    Raises `DataError` where the
    workspace's can't.
    """
    tracked = [(ACCEPTED / dataset).as_posix(), *(f"{path}.dvc" for path in _inside(source))]
    pointers = [each for path in tracked for each in (Path(path), *Path(path).glob("*.dvc"))]
    if not LOCK.is_file() and _git("ls-files", "--", str(LOCK)):
        raise DataError(f"{LOCK}: not there, though git knows it; `git checkout {LOCK}` puts it back")
    here = {path: path.read_bytes() for path in (LOCK, *pointers) if path.is_file()}
    log = _git("log", "--all", "--full-history", "--format=%h%x09%D", "--", "dvc.lock", *tracked).splitlines()
    made: dict[tuple[tuple[str, str], ...], Version] = {}
    for line in log[:limit]:
        commit, _, names = line.partition("\t")
        there = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", "dvc.lock", *tracked).split("\0")
        files = [Path(path) for path in there if path.endswith((".lock", ".dvc"))]
        texts = {path: _git("show", f"{commit}:{path.as_posix()}").encode() for path in files}
        outs = None
        with suppress(DataError):
            outs = _outs(dataset, texts)
        if outs is None or f"data/raw/{dataset}.parquet" in outs:
            version = made.setdefault(tuple(sorted((outs or {}).items())), Version(dataset, [], outs))
            version.commits.append(f"{commit} ({names})" if names else commit)
    left = len(log[limit:]) if limit is not None else 0
    return Version(dataset, [WORKSPACE], _outs(dataset, here)), list(made.values()), left


def told(count: int, one: str, more: str = "") -> str:
    """A count and what is counted: `1 row` or `2 rows`; `more` where its plural has more than an s."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def _inside(source: Source) -> list[str]:
    """The files of a source that lie in the project."""
    root = Path().resolve()
    return [file.path for file in source.files if Path(file.path).resolve().is_relative_to(root)]


def _outs(dataset: str, files: Mapping[Path, bytes]) -> dict[str, str]:
    """What DVC made of `dataset`, or was given for it, by its lock file and pointers: paths to md5.

    Raises `DataError` where one of them is none: what it doesn't say may be held all the same.
    """
    found: dict[str, str] = {}
    for file, text in files.items():
        try:
            content = yaml.load(text, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict) or ("outs" if file.suffix == ".dvc" else "stages") not in content:
            raise DataError(
                f"{file}: doesn't say what DVC has, so what holds the rows can't be known; "
                f"put back what git has with `git checkout {file}`, then ask again. Nothing was changed"
            )
        if file.suffix == ".dvc":
            found |= {(file.parent / out["path"]).as_posix(): out["md5"] for out in content["outs"]}
            continue
        outs = [out for stage in content["stages"].values() for out in stage.get("outs", [])]
        for path, md5 in ((out["path"], out["md5"]) for out in outs if "md5" in out):
            mine = dataset in [part.removesuffix(".parquet") for part in PurePosixPath(path).parts]
            if mine and not path.endswith((".json", ".csv")):  # which are figures of all rows together
                found[path] = md5
    return found


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise LatentOpsError(f"git {arguments[0]}: {result.stderr.strip().splitlines()[-1]}")
    return result.stdout


def _incoming(dataset: str, source: Source) -> Iterator[tuple[Path, pa.Table | DataError]]:
    folder = INCOMING / dataset
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            yield path, sources.read_rows(path, source)
        except DataError as error:
            yield path, error


def _outside(source: Source, incoming: Iterable[pa.Table | DataError]) -> Iterator[tuple[pa.Table, Layout]]:
    """The rows of what isn't under DVC: the source's own, as far as they can be read, and what came in."""
    with suppress(DataError):
        own = sources.read_source(source)
        for part in own.parts:
            yield part, own.layout
    for read in incoming:
        if not isinstance(read, DataError):
            yield read, table.layout_of(read, source.label)


def _workspace(here: Version) -> Iterator[Holding]:
    if held := [path for path in here.holding() if Path(path).exists()]:
        command = f"make repro DATASET={here.dataset}, then commit"
        yield Holding("workspace", told(len(held), "out"), command, held)


def _source(dataset: str, source: Source, hashes: Collection[bytes]) -> Iterator[Holding]:
    """The source's own files, as they are now."""
    try:
        rows = sources.read_source(source)
        found = Counter(
            name
            for part in rows.parts
            for name in part.filter(forgotten.held(part, rows.layout, hashes))
            .column(table.SOURCE)
            .to_pylist()
        )
    except DataError as error:
        yield Holding("source", str(error), "look into it by hand")
        return
    if not found:
        return
    if source.name != "file":
        where = f"{told(found.total(), 'row')} that come with a library"
        yield Holding("source", where, "none: they are published")
    for file in source.files:
        names = (file.path, PurePosixPath(file.path).name)
        count = found.total() if len(source.files) == 1 else max(found[name] for name in names)
        if not count:
            continue
        where = f"{locate(file)}: {told(count, 'row')}"
        if file.url is None:
            yield Holding("source", where, f"take them out of it by hand, then `latentops repin {dataset}`")
        else:
            yield Holding("source", f"{where}, from {file.url}", f"rm -r {shlex.quote(str(locate(file)))}")


def _committed(source: Source) -> Iterator[Holding]:
    """Files of the source that git has themselves, not as pointers."""
    for path in _inside(source):
        commits = _git("log", "--all", "--format=%h", "--", path).split()
        if commits:
            where = f"{path} itself is in {told(len(commits), 'commit')}, {commits[-1]} the first"
            yield Holding("git", where, f"git filter-repo --force --invert-paths --path {shlex.quote(path)}")


def _accepted(dataset: str, source: Source, hashes: Collection[bytes]) -> Iterator[Path]:
    """The files of accepted rows that hold any of them."""
    for path in sorted((ACCEPTED / dataset).glob("*.parquet")):
        rows = table.read(path, f"ingest@{dataset}")
        if forgotten.held(rows, table.layout_of(rows, source.label), hashes).true_count:
            yield path


def _rewrite(path: Path, source: Source, hashes: Collection[bytes]) -> None:
    """Write accepted rows again, under the same name, so that the others keep their split."""
    rows = pq.read_table(path)
    (kept,) = forgotten.without([rows], table.layout_of(rows, source.label), hashes)
    table.write(path, kept)
    if path.with_name(f"{path.name}.dvc").exists():
        command = [sys.executable, "-m", "dvc", "add", "--quiet", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LatentOpsError(f"dvc add {path}: {' '.join(result.stderr.split())}")


def _files(
    dataset: str,
    incoming: Mapping[Path, pa.Table | DataError],
    settings: Dataset,
    hashes: Collection[bytes],
) -> Iterator[Holding]:
    """Files that neither git nor DVC knows."""
    tables = {}
    for path, rows in incoming.items():
        if isinstance(rows, DataError):
            yield Holding("incoming file", f"may hold them: {rows}", f"rm {shlex.quote(str(path))}")
        else:
            tables[path] = "incoming file", rows
    for path in sorted(Path("var/retrain", dataset).glob("*.parquet")):
        tables[path] = ("rejected rows", pq.read_table(path))
    for path, (what, rows) in tables.items():
        count = forgotten.held(rows, table.layout_of(rows, settings.source.label), hashes).true_count
        if count:
            where = f"{path}: {count} of {told(rows.num_rows, 'row')}"
            yield Holding(what, where, f"rm {shlex.quote(str(path))}")
    for what, path, then in (
        ("data docs", Path("var/data_docs", dataset), ""),
        ("report", Path("reports", f"{dataset}.html"), " && make report"),
        ("checkpoints", Path("var/checkpoints", dataset), ""),
        ("experiments' copies", Path(".dvc/tmp/exps"), ""),
    ):
        if path.exists():
            yield Holding(what, f"{path}: may show values of rows", f"rm -r {path}{then}")


def _versions(earlier: Sequence[Version]) -> Iterator[Holding]:
    for version in earlier:
        if version.raw:
            where = f"{version.name}: {told(version.raw, 'row')}"
            yield Holding("version", where, "gone once no cache below has its data", list(version.holding()))


def _caches(found: Sequence[Version]) -> Iterator[Holding]:
    """DVC's cache and its remotes, where they have any of the outs; what has no such rows is left out."""
    from dvc.repo import Repo

    innocent = {md5 for version in found if version.raw == 0 for md5 in (version.outs or {}).values()}
    wanted = sorted({md5 for version in found for md5 in version.holding().values()} - innocent)
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
        if there := [md5 for md5 in wanted if _object(cache, md5).exists()]:
            size = sum(each.stat().st_size for md5 in there for each in _objects(cache, md5))
            where = f"{cache}: {told(len(there), 'out')}, {size:,} bytes, such as {_object(cache, there[0])}"
            yield Holding("DVC cache", where, "dvc gc --workspace --force")
        for name, section in sorted(repo.config["remote"].items()):
            command = f"dvc gc --workspace --cloud --remote {shlex.quote(name)} --force"
            try:
                odb = repo.cloud.get_remote_odb(name)
                there = [md5 for md5 in wanted if odb.exists(md5)]
            except Exception as error:  # whatever the remote's library raises
                where = f"{name} ({section['url']}): can't be asked ({' '.join(str(error).split())})"
                yield Holding("DVC remote", where, command)
                continue
            if there:
                where = f"{name} ({section['url']}): {told(len(there), 'out')}"
                yield Holding("DVC remote", where, command)


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _objects(cache: Path, md5: str) -> Iterator[Path]:
    """The file of an out in the cache; of a folder, its listing and the files that it lists."""
    yield _object(cache, md5)
    if md5.endswith(".dir"):
        entries: list[dict[str, Any]] = json.loads(_object(cache, md5).read_text(encoding="utf-8"))
        yield from filter(Path.exists, (_object(cache, each["md5"]) for each in entries))


def _models(dataset: str, found: Sequence[Version]) -> Iterator[Holding]:
    """Registered versions that were trained, or calibrated, on any of the rows."""
    from latentops.registry import store
    from latentops.registry import versions as registered
    from latentops.registry.candidate import DIGEST

    uri = store.tracking_uri()
    shown = store.shown(uri)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return
    path = f"data/prepared/{dataset}"
    digests = {held[path] for version in found if path in (held := version.holding())}
    try:
        client = store.connect()
        with store.plain_errors():
            for version in registered.versions(client, dataset):
                if version.tags.get(DIGEST) not in digests:
                    continue
                call = f"MlflowClient({shown!r}).delete_model_version({version.model!r}, '{version.number}')"
                command = f"python -c {shlex.quote(f'from mlflow import MlflowClient; {call}')}"
                folder = registered.files(client, version)
                if folder is not None and not store.is_server(uri):
                    command += f" && rm -r {shlex.quote(str(folder))}"
                yield Holding("model", f"{version.model} version {version.number}", command)
    except RegistryError as error:
        yield Holding("models", str(error), "ask again once it answers")
