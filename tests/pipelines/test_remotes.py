"""Data and run cache pushed to a remote and pulled into a fresh clone: a folder, SSH and WebDAV, for real."""

import getpass
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from projects import Project, copy_project, ran

from tests.data import people

pytestmark = pytest.mark.slow

Remote = dict[str, str]
"""DVC's settings of a remote, its `url` among them."""

SERVERS = "/usr/sbin"  # where Debian has them, out of most people's PATH
STAGES = ("ingest@people", "validate@people", "prepare@people")


def server(name: str) -> str:
    """The program of a server; the test is skipped by name where there is none."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), SERVERS]))
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


def needs(module: str) -> None:
    pytest.importorskip(module, reason=f"no {module.replace('_', '-')} in this environment")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until it has answered on `port` and its user is done."""
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        try:
            for _ in range(200):
                with socket.socket() as asking:
                    if asking.connect_ex(("127.0.0.1", port)) == 0:
                        break
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                    pytest.fail(f"{command[0]} ended: {log.read_text()}")
            else:
                pytest.fail(f"{command[0]} doesn't answer: {log.read_text()}")
            yield
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def folder(place: Path) -> Iterator[Remote]:
    yield {"url": str(place / "store")}


@contextmanager
def ssh(place: Path) -> Iterator[Remote]:
    """Debian's own server, with keys of its own and nobody else let in."""
    program, keygen = server("sshd"), server("ssh-keygen")
    needs("dvc_ssh")
    place.chmod(0o700)
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(command, check=True, capture_output=True)
    authorised = place / "authorised"
    shutil.copy(place / "user.pub", authorised)
    authorised.chmod(0o600)
    if os.geteuid() == 0:  # as root it shuts itself in there before anyone is let in
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port, config = free_port(), place / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {place}/host\nPidFile {place}/pid\n"
        f"AuthorizedKeysFile {authorised}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    with serving([program, "-D", "-e", "-f", str(config)], port, place / "log"):
        yield {
            "url": f"ssh://{getpass.getuser()}@127.0.0.1:{port}{place / 'store'}",
            "keyfile": str(place / "user"),
        }


@contextmanager
def webdav(place: Path) -> Iterator[Remote]:
    """lighttpd with its WebDAV module, as Debian packages them."""
    program = server("lighttpd")
    modules = Path("/usr/lib/lighttpd")
    if not (modules / "mod_webdav.so").exists():
        pytest.skip("no mod_webdav of lighttpd on this machine")
    needs("dvc_webdav")
    (place / "files/store").mkdir(parents=True)
    port, config = free_port(), place / "lighttpd.conf"
    config.write_text(
        'server.modules = ("mod_webdav")\n'
        f'server.document-root = "{place}/files"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        f'server.upload-dirs = ("{place}")\nwebdav.activate = "enable"\nwebdav.is-readonly = "disable"\n'
        'webdav.opts = ("propfind-depth-infinity" => "enable")\n'
    )
    with serving([program, "-D", "-f", str(config)], port, place / "log"):
        yield {"url": f"webdav://127.0.0.1:{port}/store"}


REMOTES: dict[str, Callable[[Path], AbstractContextManager[Remote]]] = {
    "folder": folder,
    "ssh": ssh,
    "webdav": webdav,
}


@pytest.fixture(scope="module")
def reproduced(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of this project with the table of people alone, ingested, validated and prepared."""
    project = copy_project(root, tmp_path_factory.mktemp("project"))
    (project.path / "dvc.lock").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.path)
        people.write_csv(people.people(80))
        people.write_params()
        for name in ("accepted", "profiles"):
            kept = Path("data", name, "people", ".gitkeep")
            kept.parent.mkdir(parents=True)
            kept.touch()
    project.run("dvc", "repro", "--quiet", *STAGES)
    return project


def outs(project: Project) -> dict[str, bytes]:
    """The bytes of everything that the stages made."""
    names = [
        out["path"]
        for stage in yaml.safe_load((project.path / "dvc.lock").read_text())["stages"].values()
        for out in stage["outs"]
    ]
    files = [
        each
        for name in names
        for each in [project.path / name, *(project.path / name).rglob("*")]
        if each.is_file()
    ]
    return {str(each.relative_to(project.path)): each.read_bytes() for each in files}


def name(project: Project, remote: Remote) -> None:
    """Tell DVC of the remote, outside of git."""
    lines = "".join(f"    {key} = {value}\n" for key, value in remote.items())
    config = f"['remote \"store\"']\n{lines}[core]\n    remote = store\n"
    (project.path / ".dvc/config.local").write_text(config)


@pytest.mark.parametrize("kind", REMOTES)
def test_a_fresh_clone_pulls_what_was_pushed_and_has_nothing_to_run(
    reproduced: Project, tmp_path: Path, kind: str
) -> None:
    with REMOTES[kind](tmp_path) as remote:
        name(reproduced, remote)
        reproduced.run("dvc", "push", "--quiet", "--run-cache", *STAGES)
        reproduced.git("add", "--all")
        reproduced.git("commit", "--quiet", "--allow-empty", "--message", "all of it")
        clone = Project(tmp_path / "clone")
        reproduced.git("clone", "--quiet", str(reproduced.path), str(clone.path))
        assert outs(clone) != outs(reproduced)
        name(clone, remote)
        clone.run("dvc", "pull", "--quiet", "--run-cache", *STAGES)
    assert outs(clone) == outs(reproduced)
    assert json.loads(clone.run("dvc", "status", "--json", *STAGES)) == {}
    assert ran(clone.run("dvc", "repro", "--dry", *STAGES)) == []

    # What came of the run cache stands in for a run. It has the stages all of whose outs are in the cache.
    (clone.path / "dvc.lock").unlink()
    said = clone.run("dvc", "repro", "ingest@people")
    assert ran(said) == []
    assert "Stage 'ingest@people' is cached - skipping run" in said
