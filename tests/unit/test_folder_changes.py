"""Which paths are read anew after a folder has changed."""

from embedfleet_producer.readers.changes import MOST_PATHS, _by_folder

FOLDERS = ["/data/docs", "/data/notes"]


def test_paths_are_told_by_their_folder():
    paths = ["/data/notes/x.md", "/data/docs/sub/b.txt", "/data/docs/a.txt", "/data/docs/a.txt"]
    assert {
        "/data/docs": [("a.txt",), ("sub", "b.txt")],
        "/data/notes": [("x.md",)],
    } == _by_folder(FOLDERS, paths)


def test_a_folder_that_changed_stands_for_what_is_in_it():
    paths = ["/data/docs/sub/b.txt", "/data/docs/sub", "/data/docs/sub/deep/c.txt"]
    assert {"/data/docs": [("sub",)]} == _by_folder(FOLDERS, paths)


def test_the_folder_itself_and_what_lies_elsewhere_are_no_changes():
    assert {} == _by_folder(FOLDERS, ["/data/docs", "/data/docs2/a.txt", "/data"])


def test_after_many_changes_all_is_read():
    paths = [f"/data/docs/{number}.txt" for number in range(MOST_PATHS + 1)]
    assert _by_folder(FOLDERS, paths) is None
    assert MOST_PATHS == len(_by_folder(FOLDERS, paths[1:])["/data/docs"])
