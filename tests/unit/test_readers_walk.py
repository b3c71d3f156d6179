"""Which files are read, what they are called, and what is turned down unread."""

import os
import socket
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet_producer.readers import ReadReport, read_paths
from embedfleet_schema.errors import InputMissing, WrongType
from embedfleet_schema.types import Document, Rejection
from plugins.privileges import without_privileges

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


def links(root, follow=False):
    """What a folder gives: documents by key, codes by key, and what was passed over."""
    report = ReadReport()
    found = list(read_paths([root], max_bytes=MAX_BYTES, follow_links=follow, report=report))
    taken = {each.key: each.text for each in found if isinstance(each, Document)}
    return taken, {v.key: v.code for v in found if isinstance(v, Rejection)}, report.left_out


def test_a_link_out_of_the_folder_is_reported_and_not_read(tmp_path):
    write(tmp_path / "private/secret.txt", "secret")
    write(tmp_path / "root/a.txt", "mine")
    (tmp_path / "root/notes.txt").symlink_to(tmp_path / "private/secret.txt")
    (tmp_path / "root/up.txt").symlink_to("../private/secret.txt")
    (tmp_path / "root/out").symlink_to(tmp_path / "private")
    (tmp_path / "root/deep").mkdir()
    (tmp_path / "root/deep/environ.txt").symlink_to("/proc/self/environ")
    taken, told, _ = links(tmp_path / "root")
    assert {"a.txt": "mine"} == taken
    names = ["notes.txt", "up.txt", "out", "deep/environ.txt"]
    assert dict.fromkeys(names, "LINK_NOT_FOLLOWED") == told


def test_a_link_to_what_is_read_under_its_own_name_is_passed_over_and_counted(tmp_path):
    write(tmp_path / "root/real/a.txt", "once")
    (tmp_path / "root/again.txt").symlink_to("real/a.txt")
    (tmp_path / "root/folder").symlink_to("real")
    (tmp_path / "root/real/up").symlink_to(tmp_path / "root")
    for follow in (False, True):
        expected = ({"real/a.txt": "once"}, {}, {"link": 3})
        assert expected == links(tmp_path / "root", follow)


def test_a_link_to_a_hidden_file_is_reported(tmp_path):
    write(tmp_path / "root/.env", "secret")
    (tmp_path / "root/env.txt").symlink_to(".env")
    assert {"env.txt": "LINK_NOT_FOLLOWED"} == links(tmp_path / "root")[1]
    assert {"env.txt": "secret"} == links(tmp_path / "root", follow=True)[0]


def test_links_are_followed_where_that_is_wanted_and_loops_end(tmp_path):
    write(tmp_path / "out/b.txt", "b")
    write(tmp_path / "out/deep/c.txt", "c")
    write(tmp_path / "single.txt", "single")
    write(tmp_path / "root/a.txt", "a")
    (tmp_path / "root/link").symlink_to(tmp_path / "out")
    (tmp_path / "root/twice").symlink_to(tmp_path / "out/deep")
    (tmp_path / "root/single.txt").symlink_to(tmp_path / "single.txt")
    (tmp_path / "out/loop").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "root")
    (tmp_path / "out/above").symlink_to(tmp_path)
    taken, told, _ = links(tmp_path / "root", follow=True)
    assert {} == told
    assert ["a", "b", "c", "single", "single"] == sorted(taken.values())
    assert {"a.txt", "link/b.txt", "link/deep/c.txt", "single.txt"} < taken.keys()


@given(seed=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_no_maze_of_links_leads_out_of_the_folder_or_round_in_it(tmp_path_factory, seed):
    base = tmp_path_factory.mktemp("maze")
    folders = [
        base / "root",
        base / "root/one",
        base / "root/one/two",
        base / "out",
        base / "out/x",
    ]
    for number, folder in enumerate(folders):
        write(folder / f"file-{number}.txt", "out" if "out" in folder.parts else "in")
    places = [*folders, *(folder / f"file-{n}.txt" for n, folder in enumerate(folders))]
    for number in range(8):
        link = seed.choice(folders) / f"link-{number}"
        link.symlink_to(seed.choice([*places, link]))
    taken, _, _ = links(base / "root")
    assert ["in"] * 3 == list(taken.values())
    assert len(links(base / "root", follow=True)[0]) <= 3 + 2 + 8


def test_a_file_or_folder_that_becomes_a_link_while_others_are_read_is_not_followed(tmp_path):
    write(tmp_path / "out/b.txt", "secret")
    root = tmp_path / "root"
    for name in ("a.txt", "b.txt", "c/b.txt", "d/e/b.txt"):
        write(root / name, "mine")
    verdicts = read_paths([root], max_bytes=MAX_BYTES)
    assert "a.txt" == next(verdicts).key
    (root / "b.txt").unlink()
    (root / "b.txt").symlink_to(tmp_path / "out/b.txt")
    for name in ("c", "d"):
        (root / name).rename(tmp_path / name)
        (root / name).symlink_to(tmp_path / "out")
    assert {"b.txt", "c", "d"} == {
        verdict.key for verdict in verdicts if verdict.code == "LINK_NOT_FOLLOWED"
    }


def test_a_file_that_is_named_may_be_a_link(tmp_path):
    write(tmp_path / "real.txt", "linked")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    assert ["linked"] == [document.text for document in read(tmp_path / "link.txt")]


def test_a_link_to_a_folder_that_is_named_is_followed(tmp_path):
    write(tmp_path / "real/a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ["a.txt"] == keys(tmp_path / "link")


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
        found = links(tmp_path, follow=True)[1]
    names = ["null.txt", "pipe", "pipe.txt", "socket.txt", "zero.csv"]
    assert dict.fromkeys(names, "NOT_A_FILE") == found


def test_a_named_pipe_is_turned_down_with_a_way_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    [rejection] = read(tmp_path / "pipe")
    assert "NOT_A_FILE" == rejection.code
    assert "standard input" in rejection.reason


@pytest.mark.parametrize("name", ["a.xyz", "archive.tar.gz", "A.XYZ"])
def test_a_named_file_of_another_kind_is_turned_down(tmp_path, name):
    [rejection] = read(write(tmp_path / name))
    assert (name, "UNKNOWN_TYPE") == (rejection.key, rejection.code)


def test_files_of_other_kinds_in_a_folder_are_told_by_suffix_with_their_number(tmp_path):
    for name in ("a.xyz", "b.XYZ", "deep/c.xyz", "d.tar.gz", "z.txt"):
        write(tmp_path / name)
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    found = read(tmp_path)
    assert ["z.txt", "*", "*.tar.gz", "*.xyz"] == [verdict.key for verdict in found]
    assert {"UNKNOWN_TYPE"} == {verdict.code for verdict in found[1:]}
    assert found[3].reason.startswith("3 files, the first a.xyz: ")
    assert found[1].reason.startswith("1 file, the first program: ")


def test_a_folder_with_as_many_suffixes_as_files_gives_a_bounded_number_of_verdicts(tmp_path):
    for number in range(120):
        write(tmp_path / f"a.u{number}")
    found = read(tmp_path)
    assert 51 == len(found)
    assert "*.*" == found[0].key
    assert found[0].reason.startswith("70 files")


@pytest.mark.parametrize("name", ["README", "LICENSE", "Makefile", "ends."])
def test_a_file_without_a_suffix_is_read_if_it_is_text(tmp_path, name):
    [document] = read(write(tmp_path / name))
    assert (name, "some text") == (document.key, document.text)


def test_extensions_are_read_in_any_case(tmp_path):
    [document] = read(write(tmp_path / "READ.ME.MD"))
    assert ("READ.ME.MD", "md") == (document.key, document.metadata["type"])


def test_a_name_that_is_not_unicode_is_rejected_in_printable_form(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xff")
    write(folder / os.fsdecode(b"caf\xe9.txt"))
    write(tmp_path / "good.txt")
    assert {r"f\xff/caf\xe9.txt": "BAD_NAME"} == codes(tmp_path)
    assert {r"f\xff/caf\xe9.txt": "BAD_NAME"} == codes(folder, tmp_path / "good.txt")


NAMES = {form: unicodedata.normalize(form, "Zoë/Grüße.txt") for form in ("NFC", "NFD")}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_has_one_key_however_its_accents_are_written(tmp_path, form):
    write(tmp_path / NAMES[form])
    [document] = read(tmp_path)
    assert (NAMES["NFC"], NAMES["NFD"]) == (document.key, document.former_key)
    assert NAMES["NFC"] == document.metadata["path"]


def test_rows_have_the_other_form_of_their_key_too(tmp_path):
    write(tmp_path / unicodedata.normalize("NFD", "ü.jsonl"), '{"text":"a"}\n{"id":1,"text":"b"}')
    first, second = read(tmp_path)
    expected = (
        unicodedata.normalize("NFC", "ü.jsonl#1"),
        unicodedata.normalize("NFD", "ü.jsonl#1"),
    )
    assert expected == (first.key, first.former_key)
    assert ("1", None) == (second.key, second.former_key)


def test_of_two_files_whose_names_are_one_key_the_second_gets_a_verdict(tmp_path):
    write(tmp_path / "Zoë.txt", "one")
    write(tmp_path / unicodedata.normalize("NFD", "Zoë.txt"), "other")
    document, rejection = sorted(read(tmp_path), key=lambda each: isinstance(each, Rejection))
    assert ("Zoë.txt", "DUPLICATE_KEY") == (rejection.key, rejection.code)
    assert "Zoë.txt" == document.key


def test_what_has_no_size_is_read_up_to_the_limit(tmp_path):
    assert "Name:" in read("/proc/self/status")[0].text
    assert "TOO_LARGE" == next(read_paths(["/proc/cpuinfo"], max_bytes=20)).code


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
    for one in (str(tmp_path), tmp_path, b"docs"):
        with pytest.raises(WrongType, match="a list of paths"):
            read_paths(one)
