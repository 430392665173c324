"""A writer that is killed anywhere, or finds the disk full: what it was told is written is there, no more.

`PYHUE_KILLS=1000 pytest tests/test_folders_crashes.py` kills more often.
"""

import errno
import os
import random
import shutil
import signal
import time
import warnings

import folder_states
import pytest
from folder_states import DIM, Expected, change

import pyhue
from pyhue._files import atomic

KILLS = int(os.environ.get("PYHUE_KILLS", "30"))
TURNS = 8


@pytest.fixture(autouse=True)
def _planned(monkeypatch):
    folder_states.planned(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow; no power fails here


@pytest.fixture(scope="module")
def expected():
    return Expected(TURNS, change)


class _Calls:
    """Counts what changes files; `at` is called before the call of a number."""

    def __init__(self, patch, number, at):
        self.count, self._number, self._at = 0, number, at
        for name in ("fsync", "replace"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr(atomic, "open", self._open, raising=False)
        patch.setattr(atomic.Path, "unlink", self._counted(atomic.Path.unlink))

    def _counted(self, call):
        def counted(*arguments, **options):
            self._next()
            return call(*arguments, **options)

        return counted

    def _open(self, *arguments):
        self._next()
        return _Written(open(*arguments), self._next)

    def _next(self):
        self.count += 1
        if self.count == self._number:
            self._at()


class _Written:
    """A file whose writes are counted."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        self._count()
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _write(folder, seed, told):
    """Changes a memory in some order, and tells of each state before it is written and after."""
    rng = random.Random(seed)
    writer, turn = pyhue.PixelMemory.open(folder, "a"), 0
    while turn < TURNS:
        for _ in range(rng.randint(1, 2)):
            if turn < TURNS:
                change(writer, turn)
                turn += 1
        os.write(told, bytes((turn,)))
        rng.choice((writer.flush, writer.flush, writer.compact, writer.optimize))()
        os.write(told, bytes((turn,)))


def _killed(folder, seed):
    """The states that a writer told of before it was killed, at a random call or a random moment."""
    rng = random.Random(seed)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        try:
            if seed % 3:
                _Calls(pytest.MonkeyPatch(), rng.randint(1, 250), _die)
            _write(folder, seed, writing)
        finally:
            os._exit(0)
    os.close(writing)
    if seed % 3 == 0:
        time.sleep(rng.random() * 0.15)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as told:
        return list(told.read())


def test_killed_writers(tmp_path, expected):
    interrupted = 0
    for seed in range(KILLS):
        folder = tmp_path / str(seed)
        pyhue.PixelMemory(DIM).save(folder)
        told = _killed(folder, seed)
        acknowledged = told[len(told) // 2 * 2 - 1] if len(told) > 1 else 0
        begun = told[-1] if told else 0
        interrupted += begun != acknowledged
        found = expected.turns(pyhue.PixelMemory.open(folder))
        assert found in (acknowledged, begun)
        with pyhue.PixelMemory.open(folder, "a") as writer:  # the lock is gone with its process
            assert writer.check() == []
            for turn in range(found, TURNS):
                change(writer, turn)
        assert expected.turns(pyhue.PixelMemory.open(folder)) == TURNS
        left = {name.split("-")[0] for name in os.listdir(folder)}
        assert left <= {"manifest.json", "lock", "segment", "plan", "packed", "deleted"}
    assert interrupted  # or nothing was tried


def _changes(writer):
    return {"flush": writer.flush, "compact": writer.compact, "optimize": writer.optimize}


def _fails(call):
    """Whether it finds the disk full."""
    try:
        call()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    return False


def _full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def before(tmp_path):
    """A folder of two segments and a plan."""
    pyhue.PixelMemory(DIM).save(tmp_path / "before")
    with pyhue.PixelMemory.open(tmp_path / "before", "a") as writer:
        for turn in range(2):
            change(writer, turn)
            writer.flush()
    return tmp_path / "before"


@pytest.mark.filterwarnings("ignore:packed anew")  # the new manifest took hold, syncing it failed
@pytest.mark.parametrize("change_of", ["flush", "compact", "optimize"])
@pytest.mark.parametrize("turns", [3, 4])
def test_a_full_disk_at_every_call(before, expected, monkeypatch, change_of, turns):
    number = 0
    while True:
        number += 1
        folder = before.with_name(str(number))
        shutil.copytree(before, folder)
        with pyhue.PixelMemory.open(folder, "a") as writer:
            for turn in range(2, turns):  # removes, then adds
                change(writer, turn)
            with monkeypatch.context() as patch:
                calls = _Calls(patch, number, _full)
                failed = _fails(_changes(writer)[change_of])
            if calls.count < number:
                break  # no such call any more
            found = expected.turns(pyhue.PixelMemory.open(folder))
            assert found == turns or (failed and found == 2)
            assert expected.turns(writer) == turns  # in memory nothing is lost
        opened = pyhue.PixelMemory.open(folder)  # closing wrote it
        assert expected.turns(opened) == turns
        assert opened.check() == []
    assert number > 8


def test_a_full_disk_while_a_memory_is_saved(tmp_path, expected, monkeypatch):
    number, folder = 0, tmp_path / "memory"
    expected.memories[2].save(folder)
    while True:
        number += 1
        with monkeypatch.context() as patch:
            calls = _Calls(patch, number, _full)
            _fails(lambda: expected.memories[4].save(folder))
        if calls.count < number:
            break
        found = expected.turns(pyhue.PixelMemory.open(folder))
        assert found in (2, 4)
        assert pyhue.PixelMemory.open(folder).check() == []
        if found == 4:
            expected.memories[2].save(folder)
    assert number > 20
    assert expected.turns(pyhue.PixelMemory.open(folder)) == 4


def test_a_writer_that_fails_leaves_only_what_is_named(before, expected, monkeypatch):
    with pyhue.PixelMemory.open(before, "a") as writer:
        names = sorted(os.listdir(before))
        change(writer, 2)
        change(writer, 3)
        with monkeypatch.context() as patch:
            _Calls(patch, 30, _full)
            with pytest.raises(OSError, match="No space"):
                writer.flush()
        assert sorted(os.listdir(before)) == names
        assert expected.turns(writer) == 4
