"""Files and folders are there whole or not at all, whoever writes them at once and whatever stops it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ernie_m.files import whole, write_text


def fill(place: Path, content: str, is_folder: bool) -> None:
    if is_folder:
        place.mkdir()
        for name in ("a", "b"):
            (place / name).write_text(content, encoding="utf-8")
    else:
        place.write_text(content, encoding="utf-8")


def content_of(place: Path) -> set[str]:
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {path.read_text(encoding="utf-8") for path in files}


@pytest.fixture(params=[False, True], ids=["file", "folder"])
def is_folder(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_what_is_written_takes_the_place_of_what_was_there(is_folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    for content in ("old", "new"):
        with whole(target) as partial:
            assert partial.parent == target.parent
            fill(partial, content, is_folder)
            assert not target.exists() or content_of(target) == {"old"}
        assert content_of(target) == {content}
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_stops_it_leaves_the_target_as_it_was(error: BaseException, is_folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    fill(target, "old", is_folder)

    def write_half() -> None:
        with whole(target) as partial:
            fill(partial, "half", is_folder)
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert content_of(target) == {"old"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_that_cannot_be_taken_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "target", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_writers_at_once_leave_one_whole_target(is_folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"

    def write(number: int) -> None:
        with whole(target) as partial:
            fill(partial, str(number), is_folder)

    with ThreadPoolExecutor(4) as writers:
        assert len(list(writers.map(write, range(100)))) == 100
    assert len(content_of(target)) == 1
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_goes_with_the_next_one(
    is_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same target and the same machine alone, and nothing of one that still writes."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    target, other = tmp_path / "target", tmp_path / "target-2"

    def begin(place: Path, process: int, machine: str) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: process)
            patch.setattr("platform.node", lambda: machine)
            context = whole(place)
            partial = context.__enter__()
        unfinished.append(context)
        fill(partial, "half", is_folder)
        return partial

    unfinished: list[object] = []
    monkeypatch.setattr("platform.node", lambda: "here")
    left = begin(target, gone.pid, "here")
    kept = [begin(other, gone.pid, "here"), begin(target, gone.pid, "elsewhere"), begin(target, os.getppid(), "here")]
    with whole(target) as partial:
        fill(partial, "new", is_folder)
    assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*kept, target])
    assert content_of(target) == {"new"}
