"""`latentops …`: the registry, the leaderboard, the report and this machine's health, by hand.

What is heavy is imported inside the command that needs it, so that `--help` answers at once.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from latentops.errors import LatentOpsError

if TYPE_CHECKING:
    from rich.console import Console

DEBUG = "LATENTOPS_DEBUG"

Datasets = Annotated[list[str] | None, typer.Argument(metavar="[DATASET]...", help="All, unless named.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET")]
Reason = Annotated[str, typer.Option(help="Goes into the ledger.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains every kind of autoencoder, judges each by its latent code, keeps the best in production.",
    epilog="`--debug` anywhere, or LATENTOPS_DEBUG=1, shows the traceback of an error.",
)


@app.command()
def check() -> None:
    """Check params.yaml: every key known, every value usable, every model of prepared data can be built.

    What processes of DVC that were killed still have locked is released.
    """
    from latentops import locks
    from latentops.config import load_params, params_path
    from latentops.training.trained import check_models
    from latentops.variants import FOLDER, variant_class, variant_file, variant_settings

    params = load_params()
    for name in params.variants:
        variant_settings(name, params.variant(name))
        if variant_file(name) is None:
            raise LatentOpsError(
                f"{params_path()}: variants.{name} is installed, but DVC goes by a file: write "
                f"{FOLDER / name}.py with the line `from {variant_class(name).__module__} import Variant`"
            )
    check_models(params)
    for line in locks.release():
        print(line)
    run = params.run
    cells = (
        f"{len(run.datasets)} datasets × {len(run.variants)} variants × {len(params.training.seeds)} seeds"
    )
    print(f"{params_path()}: fine; {cells}")


@app.command()
def variants(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[VARIANT]...", help="All, unless named.")
    ] = None,
) -> None:
    """List the variants: what each asks of the code, its options, its sources."""
    from rich.padding import Padding
    from rich.table import Table

    from latentops.variants import known
    from latentops.variants.autoencoder import VariantSettings
    from latentops.variants.catalogue import describe, options

    console = _console()
    for name in names or known():
        entry = describe(name)
        console.print(name, style="bold", end="" if entry.origin == "built in" else f"  ({entry.origin})")
        console.print()
        console.print(Padding(f"{entry.line}.\n{'; '.join(entry.sources)}".strip(), (0, 0, 0, 2)))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        for option in entry.options:
            table.add_row(option.key, option.values, option.default, option.meaning)
        if entry.options:
            console.print(Padding(table, (0, 0, 0, 4)))
    for option in options(VariantSettings):
        console.print(f"\nEvery variant also takes {option.key}: {option.values} ({option.default})")


@app.command("add-dataset")
def add_dataset(
    path: Annotated[
        str, typer.Argument(metavar="PATH|NAME", help="A file, a folder, or a set of `latentops datasets`.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call it; from the path, unless given.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the class, or of a number to tell.")] = None,
    normal: Annotated[
        list[str] | None,
        typer.Option(help="Class that is normal; others are anomalies. May be repeated."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column of what stays on one side of a split.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times; tables are then split by time.")] = None,
    part: Annotated[str | None, typer.Option(help="Column that says train or test.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to pass over. May be repeated.")] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="COLUMN=TYPE", help="numeric, categorical, boolean or date."),
    ] = None,
    dates: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=FORMAT", help="How its dates are written, such as born=%d.%m.%Y."),
    ] = None,
    missing: Annotated[list[str] | None, typer.Option(help="Cell that stands for a missing value.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Column of text. May be repeated.")] = None,
    values: Annotated[list[str] | None, typer.Option(help="Column of a sequence's values.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column of a long table's sequences.")] = None,
    kind: Annotated[str | None, typer.Option(help="image, tabular, sequence or text, if not told.")] = None,
    window: Annotated[int | None, typer.Option(help="Steps of a long series' windows.")] = None,
    stride: Annotated[int | None, typer.Option(help="Steps from one window to the next.")] = None,
    every: Annotated[float | None, typer.Option(help="Seconds a step of a long series.")] = None,
    marks: Annotated[Path | None, typer.Option(help="JSON file of a series' anomalous windows.")] = None,
    size: Annotated[str | None, typer.Option(help="Such as 32x32: what pictures are made.")] = None,
    fit: Annotated[str | None, typer.Option(help="How they are made it: resize, crop or tile.")] = None,
    same: Annotated[
        str | None,
        typer.Option(help="Regular expression; pictures of one first group go together."),
    ] = None,
) -> None:
    """Look at a file, folder or named set, write its entry into params.yaml, and validate its rows."""
    from rich import box
    from rich.table import Table

    from latentops import adding
    from latentops.config import params_path
    from latentops.data import detection

    given = {
        "label": label,
        "group": group,
        "time": time,
        "part": part,
        "drop": drop or (),
        "text": text or (),
        "missing": missing or (),
        "values": values or (),
        "id": id_,
        "kind": kind,
        "window": window,
        "stride": stride,
        "every": every,
        "marks": marks,
        "fit": fit,
        "same": same,
        "types": dict(each.rpartition("=")[::2] for each in type_ or ()),
        "dates": dict(each.partition("=")[::2] for each in dates or ()),
        "size": None if size is None else tuple(size.lower().split("x")),
    }
    said = detection.said(given)
    added = adding.add(path, said, name, normal or ())
    console, (head, *cells) = _console(), adding.preview(added)
    for title, columns, rows in (
        ("First rows", head, cells),
        ("Columns", ("column", "type", "least … median … greatest, or values (rows)"), adding.table(added)),
    ):
        table = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table, "")
    if added.source.label is None:
        print("no label: nothing will be chosen or promoted; name one with --label\n")
    print(f"{params_path()}: datasets.{added.name} written; look it over\n\n{added.text}")
    found = adding.validated(added)
    told = "".join(f"\n  {count:,} × {reason}" for reason, count in sorted(found["reasons"].items()))
    print(f"{found['clean']:,} of {found['rows']:,} rows are clean, {found['quarantined']:,} set aside{told}")
    print(f"data docs: var/data_docs/{added.name}/index.html\nnext: make repro DATASET={added.name}")


@app.command("data-status")
def data_status(
    old: Annotated[str, typer.Argument(metavar="[OLD]", help="A commit, a tag or a branch.")] = "HEAD",
    new: Annotated[
        str, typer.Argument(metavar="[NEW]", help="Another, or `workspace`: the files as they are now.")
    ] = "workspace",
    datasets: Datasets = None,
) -> None:
    """Say which rows were added, removed and changed from one revision to another, by class and split."""
    from rich import box
    from rich.table import Table

    from latentops.data import history
    from latentops.data.prepared import SPLITS

    console = _console()
    for change in history.compare(history.Revision(old), history.Revision(new), datasets or []):
        counts = {what: sum(each.values()) for what, each in change.counts.items()}
        (before, after), aside = change.rows, change.quarantined
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        print(
            f"{change.dataset}: {before:,} → {after:,} rows: {told}; quarantined: {aside[0]:,} → {aside[1]:,}"
        )
        moves = ", ".join(f"{count:,} {a} → {b}" for (a, b), count in sorted(change.moved.items()))
        print(f"  moved to another split: {moves or 'none'}")
        table = Table("", "class", *SPLITS, box=box.SIMPLE_HEAD, show_edge=False)
        for what, each in change.counts.items():
            for label in sorted({label for label, _ in each}):
                table.add_row(what, label, *(f"{each[label, split]:,}" for split in SPLITS))
        if table.row_count:
            console.print(table)
        for what, rows in change.examples.items():
            for row in rows:
                splits = " → ".join(dict.fromkeys(filter(None, (row.before, row.after))))
                print(f"  {what}: {row.source}:{row.position} ({row.label or 'no class'}, {splits})")


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="This one whole.")] = None,
) -> None:
    """List the data sets, in params.yaml and by name: kind, rows, size, licence, and where they are."""
    from latentops.config import load_params, params_path
    from latentops.reporting import datasets as listing

    own = load_params().datasets if params_path().exists() else {}
    if name is None:
        listing.print_all(own)
    else:
        listing.print_one(name, own)


@app.command()
def repin(
    dataset: Dataset,
    force: Annotated[bool, typer.Option("--force", help="Also for files with an official address.")] = False,
) -> None:
    """Renew the checksums of a dataset's files where they were meant to change; count rows that differ."""
    from latentops.config import params_path
    from latentops.data import repin as repinning

    found = repinning.repin(dataset, force=force)
    if not found.files:
        print(f"{dataset}: its files are the ones that {params_path()} means")
        return
    print(f"{params_path()}: datasets.{dataset}: new SHA-256 of {', '.join(found.files)}")
    if found.added is None:
        print(f"{dataset}: no raw table to compare with; next: make repro DATASET={dataset}")
    else:
        told = f"{found.added:,} rows added, {found.removed:,} removed"
        print(f"{dataset}: {told}; next: make repro DATASET={dataset}")


@app.command()
def forget(
    dataset: Dataset,
    ids: Annotated[
        Path, typer.Option(help="A file of an id a line: a group, a name, a row's id or source:position.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say it.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Commits to look at, the newest; all, unless given.")
    ] = None,
) -> None:
    """Leave rows out of all data to come; list what still holds them, and what to run to be rid of each."""
    from latentops import forgetting
    from latentops.data import forgotten

    found = forgetting.forget(dataset, forgotten.Ids.read(ids), limit, trying=dry_run)
    would = "would be " if dry_run else ""
    alike = f", and {found.alike:,} more with the same values as one of them" if found.alike else ""
    meant = f"{forgetting.told(found.rows, 'row')} {'is' if found.rows == 1 else 'are'} meant{alike}"
    print(f"{dataset}: {meant}; {would}left out of all data to come")
    listed = forgetting.ACCEPTED / dataset / forgotten.FILE
    commit = "; commit it" if found.fresh and not dry_run else ""
    print(f"{listed}: {forgetting.told(found.fresh, 'hash', 'hashes')} {would}added{commit}")
    for path in found.rewritten:
        print(f"{path}: {would}written again without them{'' if dry_run else f'; commit {path}.dvc'}")
    print(f"what still holds them: {len(found.holdings) or 'nothing that is known here'}")
    for holding in found.holdings:
        print(indent(str(holding), "  "))
    if found.unread:
        names = ", ".join(found.unread[:3]) + ", …" * (len(found.unread) > 3)
        print(
            f"without rows here to look into: {forgetting.told(len(found.unread), 'version')} ({names}); "
            "where a remote has them, `dvc fetch --all-commits` first"
        )
    if found.passed_over:
        older = forgetting.told(found.passed_over, "older commit")
        print(f"not looked at: {older}; leave --limit out for all")


@app.command()
def targets(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only this variant.")] = None,
) -> None:
    """Print the DVC stages that a narrowed `dvc repro` takes; nothing means the whole DAG."""
    from latentops import targets as narrowing
    from latentops.config import load_params

    print(*narrowing.targets(load_params(), dataset, variant))


@app.command()
def accept(datasets: Datasets = None) -> None:
    """Take the raw rows as they are as the version that later ones may not drift far from (`max_drift`)."""
    from latentops.config import load_params
    from latentops.data.expectations import acceptance
    from latentops.data.table import Stored
    from latentops.targets import datasets as known

    params = load_params()
    for name in known(params, datasets or []):
        settings = params.dataset(name)
        raw = Stored(Path("data/raw", f"{name}.parquet"), f"ingest@{name}")
        taken = acceptance.accept(raw, name, settings.source, settings.expectations)
        print(f"{name}: {taken.rows:,} clean rows accepted; commit {acceptance.ACCEPTED / name}")


@app.command()
def leaderboard(datasets: Datasets = None) -> None:
    """Print the leaderboard, write the report, and say how to open MLflow."""
    from latentops.config import load_params
    from latentops.reporting import results
    from latentops.reporting.leaderboard import print_table
    from latentops.targets import datasets as known

    names = known(load_params(), datasets or [])
    if not datasets:  # a narrowed run has compared some of them only
        names = [name for name in names if name in results.compared()]
        if not names:
            raise LatentOpsError("nothing compared yet: run `make repro`, or `make flow` to run in parallel")
    print_table([results.comparison(name) for name in names])
    _write_report()
    print("MLflow: make ui")


@app.command()
def report() -> None:
    """Write the HTML report from the results that are there."""
    _write_report()


@app.command()
def record(datasets: Datasets = None) -> None:
    """Rebuild or complete the MLflow store from the results; what is there already stays as it is."""
    from latentops.config import load_params
    from latentops.registry import tracking
    from latentops.reporting.profiles import drawings
    from latentops.targets import datasets as known

    params = load_params()
    for name in known(params, datasets or []):
        print(f"{name}: {len(tracking.complete(name, params, drawings))} variants are in MLflow")


@app.command()
def sync() -> None:
    """Deliver to MLflow what was kept while it couldn't be reached; what it has already isn't doubled."""
    from latentops.registry import tracking

    delivered = tracking.sync()
    for name, count in delivered.items():
        print(f"{name}: {count} {'run' if count == 1 else 'runs'} delivered")
    if not delivered:
        print("nothing waits to be delivered")


@app.command()
def promote(
    datasets: Datasets = None,
    reason: Reason = "",
    force: Annotated[
        bool, typer.Option("--force", help="Past a gate that holds; needs a DATASET and a reason, and shows.")
    ] = False,
) -> None:
    """Make what passes its gates the champion; what a gate holds is the challenger, and which gate it was."""
    from latentops import promotion
    from latentops.config import load_params
    from latentops.targets import datasets as known

    if force and len(datasets or []) != 1:
        raise LatentOpsError("--force is of one dataset: name it, as in `latentops promote digits --force`")
    live = False
    for name in known(load_params(), datasets or []):
        decision = promotion.promote(name, reason, force=force)
        live |= decision.promoted
        print(decision.text)
    if live:
        print(
            "commit dvc.lock, ledger and results, or `latentops verify` won't find what it was trained from"
        )


@app.command()
def reject(dataset: Dataset, reason: Reason) -> None:
    """Turn the challenger down, for a reason that stays with it."""
    from latentops.config import load_params
    from latentops.registry import champion

    load_params().dataset(dataset)
    print(champion.reject(dataset, reason=reason).text)


@app.command()
def rollback(dataset: Dataset, reason: Reason = "") -> None:
    """Put the previous champion back."""
    from latentops.config import load_params
    from latentops.registry import champion

    load_params().dataset(dataset)
    print(champion.rollback(dataset, reason=reason).text)


@app.command()
def diff(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as digits@champion.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Such as digits@challenger, or digits/3.")],
) -> None:
    """What differs between two registered versions: settings, figures, gates."""
    from rich.console import Console
    from rich.table import Table

    from latentops.registry.difference import diff as differ

    found = differ(model, other)
    if not found.entries:
        print(f"{found.left} and {found.right} are the same")
        return
    table = Table()
    for head in ("", "", found.left, found.right):
        table.add_column(head, overflow="fold")  # a name cut short could be that of another figure
    for entry in found.entries:
        table.add_row(entry.group, entry.name, entry.left, entry.right)
    Console().print(table)


@app.command()
def history(dataset: Dataset) -> None:
    """Print the ledger of a dataset's model, the oldest first: what was promoted, held, rejected, undone."""
    from latentops.config import load_params
    from latentops.registry import champion

    load_params().dataset(dataset)
    lines = champion.history(dataset)
    for line in lines:
        made = f"version {line['version']} ({line['variant']}, seed {line['seed']})"
        event = "forced" if line.get("forced") else line["event"]
        print(f"{line['when']}  {event:<8}  {made}  by {line['who']}: {line['why']}")
    if not lines:
        print(f"{dataset}: no champion so far, and no challenger")


@app.command()
def serve(
    dataset: Dataset,
    port: Annotated[int, typer.Option(help="Of this machine's loopback.")] = 8080,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; as cores, up to four.")] = None,
) -> None:
    """Serve the champion over HTTP, as it is now, until stopped."""
    from latentops.config import load_params
    from latentops.registry import serving

    load_params().dataset(dataset)
    serving.serve(dataset, port, workers)


@app.command()
def verify(model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as digits@champion.")]) -> None:
    """Prove the chain of a registered model again: ledger, package, run, data, metrics."""
    from latentops.registry.verification import verify as verified

    found = verified(model)
    for link in found.links:
        print(f"{'ok' if link.holds else 'broken':<8} {link.text}")
    if not found.holds:
        raise LatentOpsError(f"{found.name}: {len(found.broken)} of {len(found.links)} links are broken")


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as digits@champion.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; DATASET-VERSION.onnx here, unless given.")
    ] = None,
) -> None:
    """Write a registered model as ONNX: raw rows in, codes and reconstructions in raw units out."""
    from latentops.registry import onnx, versions

    version = versions.resolve(model)
    path = out or Path(f"{version.dataset}-{version.number}.onnx")
    off = onnx.export(versions.load(f"{version.dataset}/{version.number}"), path)
    print(f"{version.name}: {path}, {path.stat().st_size / 1e3:,.0f} kB; as the package to {off:.0e}")


@app.command()
def prune(
    older_than: Annotated[
        str, typer.Option(help="Only what is older: days or hours, as 30d or 12h.")
    ] = "30d",
    yes: Annotated[bool, typer.Option("--yes", help="Do it, rather than say what would go.")] = False,
) -> None:
    """Say what nothing names any more of versions, models, runs and cached data; with --yes, remove it."""
    from latentops.registry import pruning

    found = pruning.prune(pruning.age(older_than), dry_run=not yes)
    for what, names in (("version", found.versions), ("model", found.models), ("run", found.runs)):
        for name in names:
            print(f"{what:<8} {name}")
    print(f"deleted  {found.deleted} runs, in MLflow's bin")
    print(f"cache    {found.cache}")
    print("removed for good" if yes else "nothing was removed: --yes does it")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One that isn't there yet.")],
) -> None:
    """Save the MLflow store, the ledger, the outbox and DVC's cache into a folder."""
    from latentops.registry import backup as saving

    made = saving.backup(folder)
    print(f"{made.folder}: {made.files:,} files, {made.bytes / 1e6:,.1f} MB")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `latentops backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the store that is here.")] = False,
) -> None:
    """Put a backup back, once every file of it has been checked."""
    from latentops.registry import backup as saving

    made = saving.restore(folder, force=force)
    print(f"{made.folder}: {made.files:,} files put back; next: latentops verify DATASET")


@app.command()
def sweep(
    dataset: Dataset,
    variant: Annotated[str, typer.Argument(metavar="VARIANT")],
    sizes: Annotated[
        str | None, typer.Option(help="Such as 1,2,4,8; powers of two up to the input's size, unless given.")
    ] = None,
) -> None:
    """Train a variant at several latent sizes; draw error, probe and AUROC over size with the knee marked."""
    from latentops import sweep as sweeping

    made = sweeping.run(dataset, variant, sweeping.parse_sizes(sizes) if sizes is not None else None)
    for line in made.table():
        print(line)
    print(f"{made.verdict}\n{made.data}\n{made.page}")


@app.command()
def doctor() -> None:
    """Say what is missing or broken on this machine, and how to mend it."""
    from latentops.doctor import examine

    broken = 0
    for finding in examine(Path()):
        print(finding)
        broken += not finding.ok
    if broken:
        raise LatentOpsError(f"{broken} {'thing is' if broken == 1 else 'things are'} to mend")


def _console() -> "Console":
    """Of the terminal's width, or 100 where there is none."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(width=100, highlight=False, markup=False)


def guard(command: Callable[[], object]) -> None:
    """Run `command`; an error of ours, or of the file system, becomes one line on stderr and exit status 1.

    `--debug` among the arguments, or LATENTOPS_DEBUG=1, shows the traceback too.
    """
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"  # for the processes started from here as well
    try:
        command()
    except LatentOpsError as error:
        if os.environ.get(DEBUG) == "1":
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except OSError as error:
        if os.environ.get(DEBUG) == "1":
            traceback.print_exc()
        sys.stderr.write(f"error: {error.filename or 'file system'}: {error.strerror or error}\n")
        sys.exit(1)


def main() -> None:
    """The `latentops` command."""
    guard(app)


def _write_report() -> None:
    print(f"report: {write_report()}")


def write_report() -> Path:
    """Write the report of what was compared, in the order of `run.datasets`; the path of its first page."""
    from latentops.config import load_params
    from latentops.reporting import page, results

    params = load_params()
    have = results.compared(Path())
    return page.write(params, datasets=[name for name in params.run.datasets if name in have])


if __name__ == "__main__":
    main()
