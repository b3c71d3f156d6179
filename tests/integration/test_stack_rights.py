"""The embedded stack changes nothing that is not its own, whoever prepared the folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.local_workers import start_workers
from embedfleet.stack import down, folder_access, up
from embedfleet.stack.files import Folder, appending
from embedfleet.stack.processes import Account
from embedfleet_schema.errors import StackError
from plugins.servers import stack_folder

ROOT = 0
SOMEBODY = 65_534
INSIDE = ["logs", "valkey", "workers", "postgres", ".lock", "stack.json"]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder with a file in it, both somebody else's business."""
    folder = tmp_path / "victim"
    folder.mkdir(mode=0o750)
    (folder / "file").write_text("precious")
    return folder


@pytest.fixture
def fresh() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder


def seen(folder: Path) -> list[tuple[str, int, int, str]]:
    found = [(path, path.stat()) for path in (folder, *sorted(folder.rglob("*")))]
    texts = [path.read_text() if path.is_file() else "" for path, _ in found]
    return [
        (path.name, each.st_uid, each.st_mode, text)
        for (path, each), text in zip(found, texts, strict=True)
    ]


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("start", [up, lambda data: start_workers(data, 1)])
def test_no_link_in_the_data_folder_is_followed(
    tmp_path: Path, victim: Path, name: str, start: object
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    target = victim / "file" if name in (".lock", "stack.json") else victim
    (data / name).symlink_to(target)
    before = seen(victim)
    with pytest.raises(StackError, match=f"{name} is a symbolic link"):
        start(data)  # type: ignore[operator]
    with pytest.raises(StackError, match=f"{name} is a symbolic link"):
        down(data)
    assert before == seen(victim)
    assert [name] == [path.name for path in data.iterdir()]


def test_root_leaves_another_users_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (data / "logs").mkdir(parents=True)
    if os.geteuid() == ROOT:
        os.chown(data, SOMEBODY, SOMEBODY)
    before = seen(data)
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)
    with pytest.raises(StackError, match=r"belongs to user \d+; run this as that user"):
        up(data)
    assert before == seen(data)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_stack_starts_again_below_a_closed_folder(fresh: Path) -> None:
    fresh.parent.chmod(0o700)
    for _ in range(2):
        up(fresh)
        assert down(fresh)


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A data folder below a closed one, both of whoever plays root here."""
    monkeypatch.setattr(folder_access, "ROOT", os.geteuid())
    data = tmp_path / "closed" / "data"
    data.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    tmp_path.chmod(0o755)
    return Folder(data)


# Nobody has this number, so no process runs as it.
NOBODY_ELSE = Account(61_234, 61_234, switched=True)


def test_a_folder_on_the_way_is_open_while_servers_run_and_not_for_good(closed: Folder) -> None:
    parent, steps = closed.root.parent, list[str]()
    with folder_access.held_open(closed, NOBODY_ELSE, [closed.postgres], steps.append):
        assert 0o701 == mode(parent)
        folder_access.close(closed, NOBODY_ELSE)  # another stack stops meanwhile
        assert 0o701 == mode(parent)
    assert any(f"pass through {parent}" in step for step in steps)
    with folder_access.held_open(closed, NOBODY_ELSE, [closed.postgres], steps.append):
        pass
    folder_access.close(closed, NOBODY_ELSE)
    assert 0o700 == mode(parent)


def test_a_folder_on_the_way_stays_open_for_servers_that_run(closed: Folder) -> None:
    me = Account(os.geteuid(), os.getegid(), switched=True)
    with folder_access.held_open(closed, me, [closed.postgres], str):
        pass
    folder_access.close(closed, me)
    assert 0o701 == mode(closed.root.parent)


def test_a_mode_that_was_changed_since_is_left(closed: Folder) -> None:
    with folder_access.held_open(closed, NOBODY_ELSE, [closed.postgres], str):
        pass
    closed.root.parent.chmod(0o755)
    folder_access.close(closed, NOBODY_ELSE)
    assert 0o755 == mode(closed.root.parent)


def test_anothers_folder_on_the_way_is_not_opened(
    closed: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_access, "ROOT", SOMEBODY)
    with (
        pytest.raises(OSError, match=r"chmod o\+x .*/closed"),
        folder_access.held_open(closed, NOBODY_ELSE, [closed.postgres], str),
    ):
        pass
    assert 0o700 == mode(closed.root.parent)


def test_what_a_third_user_put_into_the_folder_is_not_taken(tmp_path: Path, victim: Path) -> None:
    account = Account(os.geteuid() + 1, os.getegid(), switched=True)
    link = tmp_path / "link"
    link.symlink_to(victim)
    before = seen(victim)
    with pytest.raises(OSError, match="belongs to somebody else"):
        account.take(link)
    assert before == seen(victim)


def test_a_log_that_is_a_link_is_not_written_to(tmp_path: Path, victim: Path) -> None:
    log = tmp_path / "worker-1.log"
    log.symlink_to(victim / "file")
    with pytest.raises(OSError, match="symbolic links"):
        appending(log)
    assert "precious" == (victim / "file").read_text()


def test_an_ordinary_folder_passes(tmp_path: Path) -> None:
    Folder(tmp_path).check()
    Folder(tmp_path / "none").check()
