"""Which files are read, what they are called, and what is turned down unread."""

import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedfleet_producer.readers import READERS, read_paths
from embedfleet_schema.errors import InputMissing, WrongType
from embedfleet_schema.types import Document, Rejection

MAX_BYTES = 10_000


def read(*paths):
    return list(read_paths(paths, max_bytes=MAX_BYTES))


def keys(*paths):
    return [verdict.key for verdict in read(*paths)]


def codes(*paths):
    return {v.key: v.code for v in read(*paths) if isinstance(v, Rejection)}


def write(path, text="some text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@contextmanager
def without_privileges():
    """Root reads everything, whatever the permissions: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def open_folder():
    """A folder that other users can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_folder_is_walked_in_sorted_order_and_keys_are_relative_to_it(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a-1.txt"):
        write(tmp_path / name)
    assert ["a/b/c.txt", "a/z.txt", "a-1.txt", "b.txt"] == keys(tmp_path)


def test_a_single_file_is_called_by_its_name(tmp_path):
    assert ["x.txt"] == keys(write(tmp_path / "deep/x.txt"))


def test_a_path_can_be_a_string(tmp_path):
    assert ["x.txt"] == keys(str(write(tmp_path / "x.txt")))


def test_with_several_paths_the_name_of_the_folder_goes_before(tmp_path):
    write(tmp_path / "notes/a.txt")
    write(tmp_path / "docs/a.txt")
    single = write(tmp_path / "c.txt")
    assert ["notes/a.txt", "docs/a.txt", "c.txt"] == keys(
        tmp_path / "notes", tmp_path / "docs", single
    )


def test_paths_with_the_same_last_part_are_called_as_they_were_given(tmp_path, monkeypatch):
    write(tmp_path / "one/docs/a.txt")
    write(tmp_path / "two/docs/a.txt")
    write(tmp_path / "one/x.txt")
    write(tmp_path / "two/x.txt")
    monkeypatch.chdir(tmp_path)
    assert ["one/docs/a.txt", "two/docs/a.txt", "one/x.txt", "two/x.txt"] == keys(
        "one/docs", "two/docs", "one/x.txt", "./two/x.txt"
    )


def test_the_current_folder_is_called_by_its_name_among_others(tmp_path, monkeypatch):
    write(tmp_path / "here/a.txt")
    write(tmp_path / "b.txt")
    monkeypatch.chdir(tmp_path / "here")
    assert ["here/a.txt", "b.txt"] == keys(".", "../b.txt")


def test_a_path_given_twice_is_read_once(tmp_path):
    path = write(tmp_path / "x.txt")
    assert ["x.txt"] == keys(path, str(path))


def test_hidden_files_and_folders_are_skipped(tmp_path):
    write(tmp_path / ".secret.txt")
    write(tmp_path / ".git/config.txt")
    write(tmp_path / "seen.txt")
    assert ["seen.txt"] == keys(tmp_path)


def test_links_to_folders_are_not_followed_and_loops_end(tmp_path):
    write(tmp_path / "root/real/a.txt")
    write(tmp_path / "elsewhere/b.txt")
    (tmp_path / "root/real/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/out").symlink_to(tmp_path / "elsewhere")
    assert ["real/a.txt"] == keys(tmp_path / "root")


def test_a_link_to_a_folder_that_is_named_is_followed(tmp_path):
    write(tmp_path / "real/a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ["a.txt"] == keys(tmp_path / "link")


def test_a_link_to_a_file_is_read(tmp_path):
    write(tmp_path / "elsewhere/a.txt", "linked")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link.txt").symlink_to(tmp_path / "elsewhere/a.txt")
    assert ["linked"] == [document.text for document in read(tmp_path / "root")]


def test_links_that_lead_nowhere_are_unreadable_and_the_others_go_on(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "itself.txt").symlink_to(tmp_path / "itself.txt")
    write(tmp_path / "z.txt")
    assert {"gone.txt": "UNREADABLE", "itself.txt": "UNREADABLE"} == codes(tmp_path)
    assert "z.txt" in keys(tmp_path)


def test_pipes_sockets_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null.txt").symlink_to("/dev/null")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.txt"))
        found = codes(tmp_path)
    names = ["null.txt", "pipe", "pipe.txt", "socket.txt", "zero.csv"]
    assert dict.fromkeys(names, "NOT_A_FILE") == found


def test_a_named_pipe_is_turned_down_with_a_way_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    [rejection] = read(tmp_path / "pipe")
    assert "NOT_A_FILE" == rejection.code
    assert "standard input" in rejection.reason


@pytest.mark.parametrize("name", ["a.docx", "Makefile", "archive.tar.gz", "ends."])
def test_other_kinds_of_files_are_turned_down_and_told_which_are_read(tmp_path, name):
    path = write(tmp_path / name)
    for given in (path, tmp_path):
        [rejection] = read(given)
        assert (name, "UNKNOWN_TYPE") == (rejection.key, rejection.code)
        assert all(extension in rejection.reason for extension in READERS)


def test_extensions_are_read_in_any_case(tmp_path):
    [document] = read(write(tmp_path / "READ.ME.MD"))
    assert ("READ.ME.MD", "md") == (document.key, document.metadata["type"])


def test_a_name_that_is_not_unicode_is_rejected_in_printable_form(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xff")
    write(folder / os.fsdecode(b"caf\xe9.txt"))
    write(tmp_path / "good.txt")
    assert {r"f\xff/caf\xe9.txt": "BAD_NAME"} == codes(tmp_path)
    assert {r"f\xff/caf\xe9.txt": "BAD_NAME"} == codes(folder, tmp_path / "good.txt")


def test_unreadable_files_and_folders_are_rejected_and_the_others_go_on(open_folder):
    write(open_folder / "a/locked/x.txt")
    (open_folder / "a/locked").chmod(0)
    write(open_folder / "b.txt").chmod(0)
    write(open_folder / "c.txt")
    with without_privileges():
        found = read(open_folder)
    (open_folder / "a/locked").chmod(0o700)
    expected = [
        Rejection("a/locked", "UNREADABLE", "permission denied"),
        Rejection("b.txt", "UNREADABLE", "permission denied"),
        Document("c.txt", "some text", {"path": "c.txt", "type": "txt"}),
    ]
    assert expected == found


def test_a_path_behind_a_locked_folder_gets_a_verdict_and_no_error(open_folder):
    path = write(open_folder / "locked/x.txt")
    path.parent.chmod(0)
    with without_privileges():
        found = read(path)
    path.parent.chmod(0o700)
    assert [Rejection("x.txt", "UNREADABLE", "permission denied")] == found


@pytest.mark.parametrize("name", ["gone", "file.txt/below", "nul\0name"])
def test_a_path_that_does_not_exist_is_an_error_before_anything_is_read(tmp_path, name):
    good = write(tmp_path / "file.txt")
    with pytest.raises(InputMissing, match="no such file or folder"):
        read_paths([good, tmp_path / name], max_bytes=MAX_BYTES)


@pytest.mark.parametrize("inside", [None, "empty/emptier", ".hidden"])
def test_a_folder_without_files_is_an_error_before_anything_is_read(tmp_path, inside):
    folder = tmp_path / "folder"
    (folder / (inside or ".")).mkdir(parents=True)
    with pytest.raises(InputMissing, match="the folder is empty"):
        read_paths([write(tmp_path / "x.txt"), folder], max_bytes=MAX_BYTES)


def test_a_file_that_vanishes_while_others_are_read_is_unreadable(tmp_path):
    write(tmp_path / "a.txt")
    last = write(tmp_path / "b.txt")
    verdicts = read_paths([tmp_path], max_bytes=MAX_BYTES)
    assert "a.txt" == next(verdicts).key
    last.unlink()
    assert [Rejection("b.txt", "UNREADABLE", "no such file or directory")] == list(verdicts)


def test_one_path_that_is_not_in_a_list_is_not_taken_for_its_letters(tmp_path):
    for given in (str(tmp_path), tmp_path, b"docs"):
        with pytest.raises(WrongType, match="a list of paths"):
            read_paths(given)
