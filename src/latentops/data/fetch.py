"""Where a source's files are: in the project, the mirror, the cache or downloaded; all are checked."""

import gzip
import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from latentops import atomic
from latentops.config import File, Part, nearest
from latentops.errors import DataError
from latentops.progress import bar

MIRROR = "LATENTOPS_MIRROR"
CACHE = "LATENTOPS_CACHE"
Place = Literal["project", "mirror", "cache"]

_RETRIES = 3
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 2**16
_HARMLESS = 2**26  # bytes unpacked, below which no ratio is looked at
_RATIO = 200  # of text about 10, of near-empty images below 100; deflate's limit is 1032
_LARGEST = 2**36  # bytes unpacked, whatever the ratio
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)


class _Unavailable(DataError):
    """An address doesn't answer, or hasn't got the file."""


class _Damaged(DataError):
    """An archive isn't the one that it should be."""


def cache() -> Path:
    """The folder that downloads are kept in, laid out as a mirror: `LATENTOPS_CACHE`, or the user's own."""
    import pooch

    return Path(os.environ.get(CACHE) or pooch.os_cache("latentops"))


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder's listing, a line `<sha256>  <path in it>` a file, by path."""
    if path.is_dir():
        names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
        listing = "".join(f"{digest(path / name)}  {name}\n" for name in names)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def named(path: Path) -> str:
    """What params.yaml calls a file: its path under `LATENTOPS_MIRROR` or in the project, else all of it."""
    full = path.resolve()
    mirror = os.environ.get(MIRROR)
    for base in (Path(), *([Path(mirror)] if mirror else [])):
        if full.is_relative_to(base.resolve()):
            return full.relative_to(base.resolve()).as_posix()
    return full.as_posix()


def found(file: File) -> tuple[Place, Path] | None:
    """Where `file` lies on this machine, unchecked: where its path says, in the mirror or in the cache."""
    return _found(file.path)


def locate(file: File) -> Path:
    """The path of a file, or folder, with the bytes that `file.sha256` stands for.

    It is looked for as `file.path` says, under `LATENTOPS_MIRROR` and in the cache; else it comes from
    `LATENTOPS_MIRROR`, where that is an address, or from `file.url`, into the cache. Raises `DataError` where
    it is nowhere, has other bytes, or can't be got out of its archive; nothing but a `.part` that the next
    try goes on with is left behind.
    """
    return _locate(file.path, file.sha256, file.url, file.member)


def pin(path: str, url: str, member: str | None = None, part: Part | None = None) -> File:
    """A file of which no checksum is published, with that of the bytes that are found or come.

    Raises `DataError` as `locate` does.
    """
    at = _locate(path, None, url, member)
    return File(path=path, sha256=digest(at), url=url, member=member, part=part)


def _found(path: str) -> tuple[Place, Path] | None:
    mirror = _mirror_folder()
    places: list[tuple[Place, Path]] = [("project", Path(path))]
    if mirror is not None:
        places.append(("mirror", mirror / path))
    places.append(("cache", _cached(path)))
    return next(((place, at) for place, at in places if at.exists()), None)


def _locate(path: str, sha256: str | None, url: str | None, member: str | None) -> Path:
    at = _here(path, sha256, url)
    if at is not None:
        return at
    if url is None and not _mirror_address():
        raise DataError(_nowhere(path, sha256, url, member, []))
    from filelock import FileLock

    cache().mkdir(parents=True, exist_ok=True)
    with FileLock(cache() / ".lock"):  # of those who need the same file at once, one fetches it
        return _here(path, sha256, url) or _fetch(path, sha256, url, member)


def _here(path: str, sha256: str | None, url: str | None) -> Path | None:
    """Where the file is on this machine, its bytes checked; None where it has to be fetched."""
    here = _found(path)
    if here is None:
        return None
    place, at = here
    actual = sha256 and digest(at)
    if actual == sha256:
        return at
    if place == "cache" and url is not None:
        return None  # another version of it, which makes room
    raise DataError(_other(str(at), at, actual, sha256))


def _fetch(path: str, sha256: str | None, url: str | None, member: str | None) -> Path:
    into = _cached(path)
    failures = []
    mirror = _mirror_address()
    if mirror:
        try:
            return _download(f"{mirror.rstrip('/')}/{quote(path)}", into, sha256)
        except _Unavailable as error:
            failures.append(str(error))
    if url is not None:
        try:
            if member is None:
                return _download(url, into, sha256)
            return _extract(url, member, into, sha256)
        except _Unavailable as error:
            failures.append(str(error))
    raise DataError(_nowhere(path, sha256, url, member, failures))


def _mirror_address() -> str:
    """The mirror where it is an address on the web; else empty."""
    mirror = os.environ.get(MIRROR, "")
    return mirror if urlsplit(mirror).scheme in ("http", "https") else ""


def _mirror_folder() -> Path | None:
    """The mirror where it is a folder; None where it is an address, or there is none."""
    mirror = os.environ.get(MIRROR, "")
    if not mirror or _mirror_address():
        return None
    return folder(mirror)


def folder(place: str) -> Path:
    """The folder that a path, or an address of the scheme `file`, is of."""
    address = urlsplit(place)
    return Path(url2pathname(address.path)) if address.scheme == "file" else Path(place)


def _cached(path: str) -> Path:
    """Where in the cache a file is kept, never outside of it."""
    inside = PurePosixPath(path)
    return cache() / (inside.name if inside.is_absolute() or ".." in inside.parts else inside)


def _other(name: str, at: Path, actual: str | None, sha256: str | None) -> str:
    what = "it is an HTML page, not the data; its" if _is_page(at) else "its"
    return (
        f"{name}: {what} SHA-256 is {actual}, but source.files says {sha256}; get the right file, "
        "or, if it was meant to change, renew that with `latentops repin DATASET`"
    )


def _nowhere(path: str, sha256: str | None, url: str | None, member: str | None, failures: list[str]) -> str:
    places = [Path(path)]
    mirror = _mirror_folder()
    if mirror is not None:
        places.insert(0, mirror / path)
    tried = " nor ".join(map(str, dict.fromkeys(places)))
    if url is None:
        because = f" ({'; '.join(failures)})" if failures else ""
        return (
            f"{tried}: not found{because}; put the file there, or set {MIRROR} to the folder or address that "
            "it is under"
        )
    what = f"{member} from the archive at {url}" if member else url
    checksum = f" (SHA-256 {sha256})" if sha256 else ""
    return (
        f"{tried}: not found, and {'; '.join(failures)}; by hand: get {what}{checksum} and put it at {path} "
        f"in the project or at {_cached(path)}, or set {MIRROR} to the folder or address that it is under"
    )


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))


class _Download:
    """A pooch downloader that goes on with what an earlier try has left in `part`."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self.digest = ""

    def __call__(self, url: str, output: str, _: object) -> None:
        import requests

        have = self._part.stat().st_size if self._part.exists() else 0
        # Bytes as they are stored, so that their number says where to go on.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            status = response.status_code
            if status == requests.codes.requested_range_not_satisfiable:
                self._part.unlink(missing_ok=True)
            elif status in (requests.codes.not_found, requests.codes.gone, requests.codes.forbidden):
                raise _Unavailable(f"{url} answers {status} {response.reason}")
            response.raise_for_status()
            if status != requests.codes.partial_content:
                have = 0
            total = have + int(response.headers.get("Content-Length", 0))
            with (
                self._part.open("ab" if have else "wb") as stream,
                bar(self._part.name.removesuffix(".part"), total) as show,
            ):
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    show(stream.tell())
        self.digest = digest(self._part)
        self._part.replace(output)
        if _is_page(Path(output)):
            raise DataError(f"{url}: is an HTML page, not {self._part.name.removesuffix('.part')}")


def _download(url: str, into: Path, sha256: str | None) -> Path:
    """Put what is at `url` into the file `into`, whole and right or not at all."""
    import pooch
    import requests

    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(
            f"{url}: not an address that can be fetched from; it must begin with https:// or http://"
        )
    pooch.get_logger().setLevel("ERROR")  # the bar says what it would
    part = into.with_name(f"{into.name}.part")
    if sha256 is None:
        part.unlink(missing_ok=True)  # nothing would tell whether the rest is of the same file
    download = _Download(part)
    store = pooch.create(
        into.parent, "", registry={into.name: sha256}, urls={into.name: url}, retry_if_failed=_RETRIES
    )
    try:
        return Path(store.fetch(into.name, downloader=download))
    except ValueError as error:
        if not download.digest:
            raise _Unavailable(f"{url}: {' '.join(str(error).split())}") from None
        raise DataError(
            f"{url}: the SHA-256 of what came is {download.digest}, but it should be {sha256}; if the file "
            "was meant to change, correct source.files"
        ) from None
    except requests.exceptions.RequestException as error:
        raise _Unavailable(f"{url} can't be fetched ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """An error of requests in a few words."""
    import requests

    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.Timeout):
        return f"no answer within {_TIMEOUT} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection dropped {1 + _RETRIES} times"
    return "no connection"


def _extract(url: str, member: str, into: Path, sha256: str | None) -> Path:
    """Put `member` of the archive at `url` into the file `into`, whole and right or not at all."""
    if _leads_outside(member):
        raise DataError(
            f"{member}: a member's name that leads out of its archive is refused; correct source.files"
        )
    address = urlsplit(url)
    archive = _cached(f"archives/{address.netloc}/{address.path.lstrip('/')}")
    if not archive.exists():
        _download(url, archive, None)
    try:
        with atomic.replacing(into) as aside:
            unpack(archive, member, aside)
            actual = sha256 and digest(aside)
            if actual != sha256:
                raise _Damaged(_other(f"{url}: {member}", aside, actual, sha256))
    except _Damaged:
        archive.unlink()  # the next try shall not meet it again
        raise
    return into


def unpack(archive: Path, member: str, into: Path) -> None:
    """Write the file `member` of a zip, a tar (gzipped or not) or a gzip into the file `into`.

    A gzip of one file has no names: `member` is what is in it. Raises `DataError` where there is
    no such file, or it is a link or a device; where the archive is damaged or none; and where it unpacks to
    more than 64 GiB, or to more than 64 MiB and 200 times its size.
    """
    try:
        with _opened(archive, member) as (stream, packed), into.open("wb") as out:
            limit = min(_LARGEST, max(_HARMLESS, _RATIO * packed))
            written = 0
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > limit:
                    raise DataError(_bomb(archive, member, limit, packed))
                out.write(chunk)
    except _BROKEN as error:
        raise _Damaged(
            f"{archive}: truncated or damaged ({' '.join(str(error).split())}); get it again"
        ) from None
    except (
        RuntimeError,
        NotImplementedError,
    ) as error:  # encrypted, or packed in a way that zipfile can't undo
        raise DataError(f"{archive}: {member} can't be unpacked: {error}; unpack it by hand") from None


def _bomb(archive: Path, member: str, limit: int, packed: int) -> str:
    return (
        f"{archive}: {member} unpacks to more than {limit:,} bytes, from {packed:,}: refused as a "
        "decompression bomb; unpack it by hand if it is meant, and give its path"
    )


@contextmanager
def _opened(archive: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of `member`, and how many they are packed in."""
    with archive.open("rb") as stream:
        head = stream.read(512)
    size = archive.stat().st_size
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(archive):
            raise zipfile.BadZipFile("its directory, at the end, is missing")
        with zipfile.ZipFile(archive) as opened:
            try:
                info = opened.getinfo(member)
            except KeyError:
                raise DataError(_absent(archive, member, opened.namelist())) from None
            kind = info.external_attr >> 16 & 0o170000
            if info.is_dir() or kind not in (0, 0o100000):
                raise DataError(_no_file(archive, member))
            with opened.open(info) as inner:
                yield inner, info.compress_size
    elif head.startswith(b"\x1f\x8b"):
        with gzip.open(archive) as unzipped:
            tarred = _is_tar(unzipped.read(512))
            unzipped.seek(0)
            if tarred:
                yield from _tarred(archive, member, cast("IO[bytes]", unzipped), size)
            else:
                yield cast("IO[bytes]", unzipped), size
    elif _is_tar(head):
        with archive.open("rb") as raw:
            yield from _tarred(archive, member, raw, size)
    elif _is_page(archive):
        raise DataError(f"{archive}: is an HTML page, not an archive; get it again")
    else:
        raise DataError(f"{archive}: not a zip, tar or gzip archive: it begins with {head[:8]!r}")


def _tarred(archive: Path, member: str, raw: IO[bytes], size: int) -> Iterator[tuple[IO[bytes], int]]:
    limit = min(_LARGEST, max(_HARMLESS, _RATIO * size))
    names = []
    with tarfile.open(fileobj=raw, mode="r|") as opened:
        for info in opened:
            names.append(info.name)
            if info.offset_data + info.size > limit:  # what comes first is unpacked too
                raise DataError(_bomb(archive, info.name, limit, size))
            if PurePosixPath(info.name) != PurePosixPath(member):
                continue
            inner = opened.extractfile(info) if info.isfile() else None
            if inner is None:
                raise DataError(_no_file(archive, member))
            yield inner, size
            return
    raise DataError(_absent(archive, member, names))


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _leads_outside(member: str) -> bool:
    inside = PurePosixPath(member.replace("\\", "/"))
    return inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]


def _no_file(archive: Path, member: str) -> str:
    return f"{archive}: {member} is a folder, a link or a device, which isn't followed; name a file in it"


def _absent(archive: Path, member: str, names: list[str]) -> str:
    return f"{archive}: holds no {member!r}{nearest(member, names[:20])}"
