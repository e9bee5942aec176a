"""A file comes from where it is nearest, with the right bytes or not at all."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latentops.config import File
from latentops.data import fetch
from latentops.errors import DataError

BYTES = bytes(range(256)) * 4096  # 1 MiB
PAGE = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server:
    """Serves `files` by path; each of the next answers to be `cut` stops after so many bytes of its body."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.failing: list[int] = []  # statuses of the next answers
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        handler = functools.partial(_Handler, self)
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *rest: object) -> None:
        self._of = server
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self._of.asked.append((self.path, asked))
        content = self._of.files.get(self.path)
        if self._of.failing:
            self.send_error(self._of.failing.pop(0))
            return
        if content is None:
            self.send_error(404)
            return
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self._of.ranges else 0
        if first >= len(content) and first:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        body = content[first:]
        self.wfile.write(body[: self._of.cut.pop(0)] if self._of.cut else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("LATENTOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LATENTOPS_MIRROR", raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


def put(path: Path, content: bytes = BYTES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def files(folder: Path) -> list[str]:
    found = [each for each in folder.rglob("*") if each.is_file() and each.name != ".lock"]
    return sorted(each.relative_to(folder).as_posix() for each in found)


def wanted(url: str | None = None, member: str | None = None, content: bytes = BYTES) -> File:
    return File(path="set/data.bin", sha256=sha256(content), url=url, member=member)


def refused(file: File) -> str:
    with pytest.raises(DataError) as raised:
        fetch.locate(file)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_it_is_taken_from_the_project_then_the_mirror_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTOPS_MIRROR", str(tmp_path / "mirror"))
    cached = put(tmp_path / "cache/set/data.bin")
    assert fetch.locate(wanted()) == cached
    assert fetch.found(wanted()) == ("cache", cached)
    mirrored = put(tmp_path / "mirror/set/data.bin")
    assert fetch.locate(wanted()) == mirrored
    assert fetch.found(wanted()) == ("mirror", mirrored)
    own = put(tmp_path / "project/set/data.bin")
    assert fetch.locate(wanted()).resolve() == own
    assert fetch.found(wanted()) == ("project", Path("set/data.bin"))
    assert fetch.locate(File(path=str(cached), sha256=sha256(BYTES))) == cached


def test_the_mirror_may_be_the_address_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = put(tmp_path / "a mirror/set/data.bin")
    monkeypatch.setenv("LATENTOPS_MIRROR", (tmp_path / "a mirror").as_uri())
    assert fetch.locate(wanted()) == mirrored


def test_the_mirror_may_be_an_address_and_is_asked_before_the_official_one(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTOPS_MIRROR", f"{server.url}/mirror/")
    server.files = {"/mirror/set/data.bin": BYTES, "/official": BYTES}
    cached = tmp_path / "cache/set/data.bin"
    assert fetch.locate(wanted(f"{server.url}/official")) == cached
    assert [path for path, _ in server.asked] == ["/mirror/set/data.bin"]
    cached.unlink()
    del server.files["/mirror/set/data.bin"]
    assert fetch.locate(wanted(f"{server.url}/official")) == cached
    assert [path for path, _ in server.asked][1:] == ["/mirror/set/data.bin", "/official"]


def test_a_download_is_kept(tmp_path: Path, server: Server) -> None:
    server.files["/data.bin"] = BYTES
    file = wanted(f"{server.url}/data.bin")
    assert fetch.locate(file) == fetch.locate(file) == tmp_path / "cache/set/data.bin"
    assert fetch.locate(file).read_bytes() == BYTES
    assert len(server.asked) == 1
    assert files(tmp_path / "cache") == ["set/data.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_drops_is_taken_up_where_it_was(
    tmp_path: Path, server: Server, ranges: bool
) -> None:
    server.files["/data.bin"], server.cut, server.ranges = BYTES, [2**19, 2**18], ranges
    assert fetch.locate(wanted(f"{server.url}/data.bin")).read_bytes() == BYTES
    assert [asked for _, asked in server.asked] == [
        None,
        f"bytes={2**19}-",
        f"bytes={2**19 + 2**18 if ranges else 2**18}-",
    ]
    assert files(tmp_path / "cache") == ["set/data.bin"]


def test_what_has_come_serves_the_next_run(tmp_path: Path, server: Server) -> None:
    server.files["/data.bin"], server.cut = BYTES, [2**18, 2**17, 2**17, 2**17]
    file = wanted(f"{server.url}/data.bin")
    assert "the connection dropped 4 times" in refused(file)
    assert files(tmp_path / "cache") == ["set/data.bin.part"]
    assert fetch.locate(file).read_bytes() == BYTES
    assert server.asked[-1][1] == f"bytes={2**18 + 3 * 2**17}-"


def test_a_remainder_that_is_no_such_beginning_is_thrown_away(tmp_path: Path, server: Server) -> None:
    server.files["/data.bin"] = BYTES
    for wrong in (b"of another file", BYTES + b"and more"):
        put(tmp_path / "cache/set/data.bin.part", wrong)
        assert fetch.locate(wanted(f"{server.url}/data.bin")).read_bytes() == BYTES
        assert files(tmp_path / "cache") == ["set/data.bin"]
        (tmp_path / "cache/set/data.bin").unlink()


def test_a_server_that_fails_for_a_while_is_asked_again(server: Server) -> None:
    server.files["/data.bin"], server.failing = BYTES, [503, 500]
    assert fetch.locate(wanted(f"{server.url}/data.bin")).read_bytes() == BYTES
    server.asked.clear()
    assert "answers 404" in refused(File(path="other", sha256="0" * 64, url=f"{server.url}/none"))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BYTES[:-1], rf"the SHA-256 of what came is {sha256(BYTES[:-1])}, but it should be {sha256(BYTES)}"),
        (PAGE, "is an HTML page, not data.bin"),
        (b"\xef\xbb\xbf" + PAGE, "is an HTML page, not data.bin"),
    ],
)
def test_a_download_of_other_bytes_is_refused(
    tmp_path: Path, server: Server, content: bytes, says: str
) -> None:
    server.files["/data.bin"] = content
    assert says in refused(wanted(f"{server.url}/data.bin"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("place", ["project", "mirror", "cache"])
def test_other_bytes_at_hand_are_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("LATENTOPS_MIRROR", str(tmp_path / "mirror"))
    put(tmp_path / place / "set/data.bin", b"others")
    url = None if place == "cache" else "http://127.0.0.1:9/never"
    says = refused(wanted(url))
    assert sha256(b"others") in says
    assert sha256(BYTES) in says
    put(tmp_path / place / "set/data.bin", PAGE)
    assert "it is an HTML page, not the data" in refused(wanted(url))


def test_of_two_that_need_a_file_at_once_one_fetches_it(server: Server) -> None:
    server.files["/data.bin"] = BYTES
    file = wanted(f"{server.url}/data.bin")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch.locate(file).read_bytes(), range(4)))
    assert found == [BYTES] * 4
    assert len(server.asked) == 1


def test_an_older_version_in_the_cache_is_replaced(tmp_path: Path, server: Server) -> None:
    put(tmp_path / "cache/set/data.bin", b"as it was")
    server.files["/data.bin"] = BYTES
    assert fetch.locate(wanted(f"{server.url}/data.bin")).read_bytes() == BYTES


def test_without_a_network_one_line_says_what_to_do_by_hand(tmp_path: Path, server: Server) -> None:
    url = f"{server.url}/data.bin"
    server.close()
    says = refused(wanted(url))
    for part in (url, sha256(BYTES), "set/data.bin in the project", str(tmp_path / "cache/set/data.bin")):
        assert part in says
    assert "LATENTOPS_MIRROR" in says
    assert "b.bin from the archive at" in refused(wanted(url, "a/b.bin"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/data.bin", "data.bin", "file:///etc/hostname"])
def test_an_address_is_one_of_the_web(url: str) -> None:
    assert f"{url}: not an address" in refused(wanted(url))


@pytest.mark.parametrize("path", ["/set/data.bin", "../../data.bin"])
def test_a_download_stays_within_the_cache(tmp_path: Path, server: Server, path: str) -> None:
    server.files["/data.bin"] = BYTES
    file = File(path=path, sha256=sha256(BYTES), url=f"{server.url}/data.bin")
    assert fetch.locate(file) == tmp_path / "cache/data.bin"


def test_a_folders_digest_is_of_its_names_and_bytes(tmp_path: Path) -> None:
    put(tmp_path / "a/x/1.txt", b"one")
    put(tmp_path / "a/y.txt", b"two")
    listing = f"{sha256(b'one')}  x/1.txt\n{sha256(b'two')}  y.txt\n"
    first = fetch.digest(tmp_path / "a")
    assert first == sha256(listing.encode())
    assert fetch.locate(File(path=str(tmp_path / "a"), sha256=first)) == tmp_path / "a"
    (tmp_path / "a/y.txt").rename(tmp_path / "a/z.txt")
    assert fetch.digest(tmp_path / "a") != first


def test_what_has_no_checksum_is_pinned_to_what_comes(server: Server) -> None:
    server.files["/data.zip"] = zipped({"data.bin": BYTES})
    file = fetch.pin("set/data.bin", f"{server.url}/data.zip", "data.bin", "test")
    assert file == wanted(f"{server.url}/data.zip", "data.bin").model_copy(update={"part": "test"})
    assert fetch.locate(file).read_bytes() == BYTES
    assert len(server.asked) == 1


def zipped(members: dict[str, bytes], mode: int = 0o100644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def tarred(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        zipped({"readme": b"", "a/data.bin": BYTES}),
        tarred({"readme": b"", "a/data.bin": BYTES}),
        tarred({"./a/data.bin": BYTES}),
        tarred({"a/data.bin": BYTES}, mode="w"),
        gzip.compress(BYTES),
    ],
    ids=["zip", "tar.gz", "tar.gz with dots", "tar", "gz"],
)
def test_a_member_is_taken_out_of_its_archive(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.files["/sets/all"] = archive
    file = wanted(f"{server.url}/sets/all", "a/data.bin")
    assert fetch.locate(file) == tmp_path / "cache/set/data.bin"
    assert fetch.locate(file).read_bytes() == BYTES
    assert len(files(tmp_path)) == 2  # the archive stays, for its other members


def test_an_archive_is_downloaded_once(server: Server) -> None:
    server.files["/all.zip"] = zipped({"1": b"one", "2": b"two"})
    for name, content in (("1", b"one"), ("2", b"two")):
        file = File(path=name, sha256=sha256(content), url=f"{server.url}/all.zip", member=name)
        assert fetch.locate(file).read_bytes() == content
    assert len(server.asked) == 1


ZEROS = bytes(2**27)
NO_FILE = "is a folder, a link or a device"
BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "zip without it": (lambda: zipped({"a/date.bin": b""}), "a/data.bin", "did you mean 'a/date.bin'"),
    "tar without it": (lambda: tarred({"a/date.bin": b""}), "a/data.bin", "did you mean 'a/date.bin'"),
    "zip, upwards": (lambda: zipped({"../data.bin": BYTES}), "../data.bin", "leads out of its archive"),
    "tar, upwards": (lambda: tarred({"a/../../d": BYTES}), "a/../../d", "leads out of its archive"),
    "tar, absolute": (lambda: tarred({"/etc/data": BYTES}), "/etc/data", "leads out of its archive"),
    "zip, backslashes": (lambda: zipped({"..\\data": BYTES}), "..\\data", "leads out of its archive"),
    "zip, a drive": (lambda: zipped({"C:/data": BYTES}), "C:/data", "leads out of its archive"),
    "zip, a link": (lambda: zipped({"d": b"/etc/passwd"}, 0o120777), "d", NO_FILE),
    "zip, a folder": (lambda: zipped({"d/": b""}), "d/", NO_FILE),
    "tar, a link": (lambda: tarred({"d": b""}, tarfile.SYMTYPE), "d", NO_FILE),
    "tar, a hard link": (lambda: tarred({"d": b""}, tarfile.LNKTYPE), "d", NO_FILE),
    "tar, a device": (lambda: tarred({"d": b""}, tarfile.CHRTYPE), "d", NO_FILE),
    "tar, a pipe": (lambda: tarred({"d": b""}, tarfile.FIFOTYPE), "d", NO_FILE),
    "tar, a folder": (lambda: tarred({"d": b""}, tarfile.DIRTYPE), "d", NO_FILE),
    "zip, a bomb": (lambda: zipped({"d": ZEROS}), "d", "decompression bomb"),
    "gzip, a bomb": (lambda: gzip.compress(ZEROS), "d", "decompression bomb"),
    "tar, a bomb": (lambda: tarred({"d": ZEROS}), "d", "decompression bomb"),
    "tar, a bomb before it": (lambda: tarred({"b": ZEROS, "d": b"1"}), "d", "decompression bomb"),
    "zip, truncated": (lambda: zipped({"d": BYTES})[:-30], "d", "truncated or damaged"),
    "tar, truncated": (lambda: tarred({"d": BYTES}, mode="w")[:9000], "d", "truncated or damaged"),
    "tar.gz, truncated": (lambda: tarred({"d": BYTES})[:-40], "d", "truncated or damaged"),
    "gzip, truncated": (lambda: gzip.compress(BYTES)[:-20], "d", "truncated or damaged"),
    "gzip, a bit turned": (lambda: gzip.compress(BYTES)[:-8] + bytes(8), "d", "truncated or damaged"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + BYTES, "d", "not a zip, tar or gzip archive: it begins with"),
    "empty": (lambda: b"", "d", "not a zip, tar or gzip archive: it begins with b''"),
    "a page": (lambda: PAGE, "d", "is an HTML page, not all"),
    "other bytes": (lambda: zipped({"d": b"others"}), "d", sha256(b"others")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_and_leaves_nothing(tmp_path: Path, server: Server, name: str) -> None:
    make, member, says = BAD[name]
    server.files["/all"] = make()
    assert says in refused(wanted(f"{server.url}/all", member))
    left = files(tmp_path)
    assert left in ([], [f"cache/archives/{server.url.removeprefix('http://')}/all"])
    if "truncated" in says or says == sha256(b"others"):
        assert left == []  # so that it is fetched again, by which it may be whole
        server.files["/all"] = zipped({member: BYTES})
        assert fetch.locate(wanted(f"{server.url}/all", member)).read_bytes() == BYTES


def test_a_full_disk_leaves_nothing(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    server.files["/all"] = zipped({"d": BYTES})
    monkeypatch.setattr(fetch, "unpack", full)
    with pytest.raises(OSError, match="No space left"):
        fetch.locate(wanted(f"{server.url}/all", "d"))
    assert not (tmp_path / "cache/set").exists() or files(tmp_path / "cache/set") == []
