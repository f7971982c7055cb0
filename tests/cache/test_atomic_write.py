"""A file that affuse writes is complete or absent."""

import pytest

from affuse.cache._commit import atomic_write, write_text


def test_a_write_that_fails_keeps_the_older_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "folder" / "page.html"
    write_text(path, "old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "page.html"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "new"


def test_a_symbolic_link_is_written_through(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "new" and (tmp_path / "link").is_symlink()
