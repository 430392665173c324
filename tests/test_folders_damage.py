"""Folders that are damaged, by chance or by hand: errors name the file, what can be made anew is.

`PYHUE_MUTATIONS=1000000 pytest tests/test_folders_damage.py -k mutated` tries more of them.
"""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import tracemalloc
import warnings

import folder_states
import numpy as np
import pytest
from folder_states import Expected, batch
from reference import assert_same

import pyhue
from pyhue._files.sealed import sealed
from pyhue._saved.manifest import bytes_in

MUTATIONS = int(os.environ.get("PYHUE_MUTATIONS", "2000"))
TURNS = 4


@pytest.fixture(scope="module")
def expected():
    return Expected(TURNS, _turn)


def _turn(memory, number):
    """Adds; the last one removes, too."""
    memory.add(*batch(number))
    if number == TURNS - 1:
        memory.remove(images=[0, 9])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "memory"
    with pytest.MonkeyPatch.context() as patch:
        folder_states.planned(patch)
        pyhue.PixelMemory(folder_states.DIM).save(folder)
        with pyhue.PixelMemory.open(folder, "a") as writer:
            for turn in range(TURNS):
                _turn(writer, turn)
                writer.flush()
    return folder


@pytest.fixture
def folder(template, tmp_path):
    shutil.copytree(template, tmp_path / "memory")
    return tmp_path / "memory"


def _names(folder, kind):
    return sorted(name for name in os.listdir(folder) if name.startswith(kind))


def _flip(path, place, bit=1):
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


def test_check_tells_of_every_byte(folder):
    counts = []
    opened = pyhue.PixelMemory.open(folder)
    assert opened.check(counts.append) == []
    files = [path for path in folder.iterdir() if path.name not in ("manifest.json", "lock")]
    assert sum(counts) == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("kind", ["segment", "packed", "plan", "deleted"])
def test_check_finds_a_flipped_bit_wherever_it_is(folder, kind):
    path = folder / _names(folder, kind)[-1]
    size = path.stat().st_size
    opened = pyhue.PixelMemory.open(folder)
    assert opened.check() == []
    for place in [*range(0, 30), *range(30, size, 611), size - 1]:
        _flip(path, place, 1 << place % 8)
        (wrong,) = opened.check()
        assert path.name in wrong
        _flip(path, place, 1 << place % 8)
    assert opened.check() == []


def test_a_flipped_bit_of_the_manifest(folder):
    path = folder / "manifest.json"
    for place in range(path.stat().st_size):
        _flip(path, place)
        with pytest.raises(ValueError, match=r"manifest\.json: not the manifest of a memory"):
            pyhue.PixelMemory.open(folder)
        _flip(path, place)


def _damages():
    def cut(path):
        path.write_bytes(path.read_bytes()[:-1])

    def swap(path):  # a whole file of another segment
        others = [name for name in _names(path.parent, path.name.split("-")[0]) if name != path.name]
        shutil.copy(path.parent / others[-1], path)

    return {
        "cut": cut,
        "empty": lambda path: path.write_bytes(b""),
        "gone": lambda path: path.unlink(),
        "foreign": lambda path: path.write_bytes(b"not this" * 1000),
        "header": lambda path: _flip(path, 40),
        "swapped": swap,
    }


@pytest.mark.parametrize("damage", _damages())
def test_a_damaged_segment_is_named_and_can_be_left_out(folder, expected, damage):
    name = _names(folder, "segment")[1]
    memory = expected.memories[TURNS]
    _damages()[damage](folder / name)
    for mode in ("r", "a"):
        with pytest.raises((ValueError, OSError), match=re.escape(name)):
            pyhue.PixelMemory.open(folder, mode)
    with pytest.warns(RuntimeWarning, match=re.escape(name)):
        opened = pyhue.PixelMemory.open(folder, on_error="skip")
    begin, end = folder_states.rows(1), folder_states.rows(2)
    rest = np.r_[0:begin, end : len(memory)]
    rest = rest[~memory.removed[rest]]
    assert len(opened) == len(memory)
    np.testing.assert_array_equal(opened.vectors[rest], memory.vectors[rest])
    np.testing.assert_array_equal(opened.labels[rest], memory.labels[rest])
    others = pyhue.VectorMemory(memory.dim)
    others.add(memory.vectors[rest])
    for k in (3, len(memory)):
        distances, indices = opened.search(expected.queries, k)
        found = others.search(expected.queries, k)
        np.testing.assert_array_equal(indices, np.where(found.indices >= 0, rest[found.indices], -1))
        np.testing.assert_array_equal(np.isinf(distances), np.isinf(found.distances))
    np.testing.assert_array_equal(opened.predict(batch(0)[0]).shape, (3,))
    assert len(opened.check()) == 1
    assert opened.class_counts.sum() < memory.class_counts.sum()


@pytest.mark.parametrize("damage", _damages())
@pytest.mark.parametrize("kind", ["packed", "plan"])
@pytest.mark.filterwarnings("ignore:packed anew")
def test_what_is_packed_is_made_anew(folder, expected, kind, damage):
    if (kind, damage) == ("plan", "swapped"):
        pytest.skip("there is one plan")
    path = folder / _names(folder, kind)[0]
    _damages()[damage](path)
    with pytest.warns(RuntimeWarning, match=re.escape(path.name)):
        assert expected.turns(pyhue.PixelMemory.open(folder)) == TURNS
    with pyhue.PixelMemory.open(folder, "a") as writer:
        assert expected.turns(writer) == TURNS
        writer.flush()
        assert writer.check() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert expected.turns(pyhue.PixelMemory.open(folder)) == TURNS


def test_check_makes_packed_files_anew(folder, expected):
    path = folder / _names(folder, "packed")[0]
    _flip(path, path.stat().st_size - 5000)
    (wrong,) = pyhue.PixelMemory.open(folder).check()
    assert path.name in wrong
    with pyhue.PixelMemory.open(folder, "a") as writer:
        (wrong,) = writer.check()
        assert wrong.endswith("made anew")
        assert writer.check() == []
    opened = pyhue.PixelMemory.open(folder)
    assert opened.check() == []
    assert expected.turns(opened) == TURNS


def test_a_writer_answers_from_what_check_made_anew(folder, expected):
    names = _names(folder, "packed")
    with pyhue.PixelMemory.open(folder, "a") as writer:
        writer.search(expected.queries)
        for name in names:  # in place: as bits rot
            size = (folder / name).stat().st_size
            with open(folder / name, "r+b") as file:
                file.seek(size - 3 * size // 4)
                file.write(bytes(size // 2))
        assert [line.endswith("made anew") for line in writer.check()] == [True] * TURNS
        assert expected.turns(writer) == TURNS


def test_check_reads_everything(folder, expected):
    """Whatever else is damaged: manifest and packed files too, which are not made anew from damaged ones."""
    kinds = ("segment", "deleted", "plan", "packed")
    names = ["manifest.json", *(_names(folder, kind)[0] for kind in kinds)]
    reader, writer = (pyhue.PixelMemory.open(folder, mode) for mode in ("r", "a"))
    writer.search(expected.queries)
    for name in names:
        _flip(folder / name, (folder / name).stat().st_size // 2)
    for memory in (reader, writer):
        wrong = memory.check()
        assert [str(folder / name) in line for name, line in zip(names, wrong, strict=True)] == [True] * 5
        assert "made anew" not in "".join(wrong)


def test_check_by_a_reader_of_what_was_compacted(folder, expected):
    reader = pyhue.PixelMemory.open(folder)
    with pyhue.PixelMemory.open(folder, "a") as writer:
        writer.compact()
    assert reader.check() == []
    _flip(folder / _names(folder, "segment")[0], 9000)
    (wrong,) = reader.check()
    assert _names(folder, "segment")[0] in wrong
    assert expected.turns(reader) == TURNS  # it is where it was


def test_check_while_somebody_compacts(folder):
    reader, turns = pyhue.PixelMemory.open(folder), []

    def compacting(size):
        if not turns:
            turns.append(size)
            with pyhue.PixelMemory.open(folder, "a") as writer:
                writer.compact()

    assert reader.check(compacting) == []
    assert turns


@pytest.mark.parametrize("kind", ["segment", "deleted"])
@pytest.mark.filterwarnings("ignore:left out")
def test_what_was_left_out_is_there_again(folder, expected, kind):
    path = folder / _names(folder, kind)[0]
    content = path.read_bytes()
    path.unlink()
    reader = pyhue.PixelMemory.open(folder, on_error="skip")
    reader.search(expected.queries)
    assert not reader.refresh()
    path.write_bytes(content)
    assert reader.refresh()
    assert expected.turns(reader) == TURNS
    assert not reader.refresh()


def test_a_refresh_that_fails_leaves_the_reader_as_it_was(folder, expected):
    reader = pyhue.PixelMemory.open(folder)
    with pyhue.PixelMemory.open(folder, "a") as writer:
        writer.add(*batch(0))
    (folder / _names(folder, "segment")[-1]).unlink()
    with pytest.raises(FileNotFoundError, match="segment"):
        reader.refresh()
    assert expected.turns(reader) == TURNS


@pytest.mark.filterwarnings("ignore:left out")
def test_a_refresh_that_fails_keeps_what_was_left_out(folder, expected):
    (folder / _names(folder, "segment")[0]).unlink()
    one, other = (pyhue.PixelMemory.open(folder, on_error="skip") for _ in range(2))
    found = one.search(expected.queries)
    pyhue.PixelMemory(folder_states.DIM + 1).save(folder)
    with pytest.raises(ValueError, match="expected a memory of dim"):
        other.refresh()
    assert_same(other.search(expected.queries), found)  # which looks at segments for the first time


def _manifest(change):
    def damage(folder):
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        content["checksum"] = "00000000"
        (folder / "manifest.json").write_bytes(sealed(json.dumps(content).encode()))

    return damage


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: m.update(version=2), "expected pyhue.folder, version 1, got pyhue.folder, version 2"),
        (lambda m: m.update(kind="other"), "expected a memory of kind pyhue.PixelMemory, got other"),
        (lambda m: m.pop("segments"), "expected segments"),
        (lambda m: m.update(dim="16"), "dim: expected int, got '16'"),
        (lambda m: m.update(dim=17), "expected vectors"),
        (lambda m: m.update(dtype="bfloat16"), "expected vectors"),
        (lambda m: m.update(images=-1), "expected counts from 0"),
        (lambda m: m["segments"][0].update(rows=2**41), "rows from 0"),
        (lambda m: m["segments"][0].update(rows=16), "expected vectors"),
        (lambda m: m["segments"][0].update(number="../../etc"), "number: expected int"),
        (lambda m: m["deleted"].update(rows=m["deleted"]["rows"] - 1), "expected 9 of 90 rows, got 10"),
        (lambda m: m["deleted"].update(rows=81), "expected 81 of 90 rows, got 10"),
        (lambda m: m["deleted"].update(checksum="00000000"), "expected the one with checksum 00000000"),
        (lambda m: m["segments"].append(m["segments"][0]), "each segment once"),
        (lambda m: m["segments"][0].pop("rows"), "expected number, rows, checksum"),
        (lambda m: m["segments"][0].update(checksum="00000000"), "expected the one with checksum 00000000"),
    ],
)
def test_manifests_that_are_wrong(folder, change, error):
    _manifest(change)(folder)
    with pytest.raises(ValueError, match=re.escape(error)):
        pyhue.PixelMemory.open(folder)


def _mutated(content, rng):
    """Content with some bytes of its header changed, put in or left out; every other time with its seal."""
    if content[:1] == b"{":
        head, text, rest = b"", bytearray(content), b""
    else:
        size = int.from_bytes(content[:8], "little")
        head, text, rest = content[:8], bytearray(content[8 : 8 + size].rstrip(b" ")), content[8 + size :]
    room = len(content) - len(head) - len(rest)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text))
        kind = rng.randrange(5)
        if kind == 0:
            text[place] = rng.randrange(256)
        elif kind == 1:
            del text[place : place + rng.randint(1, 9)]
        elif kind == 2:
            text[place:place] = bytes(rng.choices(b'0123456789-.eE{}[]",:ntu \xff', k=rng.randint(1, 9)))
        elif kind == 3:
            digits = [match.span() for match in re.finditer(rb"\d+", text)]
            begin, end = rng.choice(digits or [(0, 1)])
            text[begin:end] = rng.choice(
                [b"0", b"1", b"-1", b"4096", b"2147483648", b"9223372036854775808", b"1e9", b"99999999999"]
            )
        else:
            head = bytes(rng.randrange(256) if rng.random() < 0.2 else byte for byte in head)
    if rest or head:
        text = text.ljust(room)[:room] if rng.random() < 0.9 else text
    whole = bytes(head + text + rest)
    if rng.random() < 0.5:
        at = whole.find(b'"checksum": "')
        if at >= 0:
            begin, end = at + 13, at + 21
            size = len(whole) - len(rest)
            cleared = whole[:begin] + b"00000000" + whole[end:size]
            with contextlib.suppress(ValueError):
                whole = sealed(cleared) + whole[size:]
    return whole


def _opened_and_searched(folder, queries, on_error):
    memory = pyhue.PixelMemory.open(folder, on_error=on_error)
    memory.search(queries[:, : memory.dim] if memory.dim <= 16 else np.ones((1, memory.dim)))


def _allocated(call):
    """Bytes at most at once, while it was called or raised what the file is blamed for."""
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError, OSError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize(
    ("share", "refused"), [((30, 0), "segment-1"), ((0.6, 0.6), "segment-2"), ((0.9, 0), "")]
)
def test_no_more_is_left_out_than_there_can_have_been(folder, expected, share, refused):
    """Rows that a manifest says of segments, together, against one for 32 bytes of the folder."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size // 32 > 20_000

    def change(content):
        for segment, part in zip(content["segments"], share, strict=False):
            segment["rows"] = int(part * size // 32) or segment["rows"]

    whole = _allocated(lambda: _opened_and_searched(folder, expected.queries, "skip"))
    _manifest(change)(folder)
    assert _allocated(lambda: _opened_and_searched(folder, expected.queries, "skip")) < whole + size
    told = (
        pytest.raises(ValueError, match=f"{folder}/{refused}.*too many")
        if refused
        else contextlib.nullcontext()
    )
    with told:
        _opened_and_searched(folder, expected.queries, "skip")


@pytest.mark.filterwarnings("ignore:packed anew", "ignore:left out")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [None, 5000])
def test_what_is_left_out_takes_no_memory(folder, expected, dtype, rows):
    """However long its vectors are said to be: nothing is computed of them."""

    def change(content):
        content |= {"dim": 4096, "dtype": dtype}
        for segment in content["segments"]:
            segment["rows"] = rows or segment["rows"]

    whole = _allocated(lambda: _opened_and_searched(folder, expected.queries, "raise"))
    _manifest(change)(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert _allocated(lambda: _opened_and_searched(folder, expected.queries, "skip")) < whole + size


@pytest.mark.filterwarnings("ignore:packed anew", "ignore:left out")
def test_mutated_manifests_and_headers(folder, expected):
    """The whole folder's bytes are allocated at most, beyond what it takes when it is whole."""
    rng = random.Random(0)
    kinds = ("segment", "packed", "plan", "deleted")
    names = ["manifest.json", *(_names(folder, kind)[0] for kind in kinds)]
    original = {name: (folder / name).read_bytes() for name in names}
    whole = max(_allocated(lambda: _opened_and_searched(folder, expected.queries, "raise")) for _ in range(2))
    largest = whole + sum(path.stat().st_size for path in folder.iterdir())
    opened, refused = (dict.fromkeys(itertools.product(names, ("raise", "skip")), 0) for _ in range(2))
    for number in range(MUTATIONS):
        name, on_error = names[number % len(names)], rng.choice(["raise", "raise", "skip"])
        (folder / name).write_bytes(_mutated(original[name], rng))

        def call(on_error=on_error):
            _opened_and_searched(folder, expected.queries, on_error)

        if rng.random() < 0.1:  # slow. Twice: now and then a table of the interpreter's own grows
            assert _allocated(call) < largest or _allocated(call) < largest, f"{number}: {name}, {on_error}"
        message = str(folder)
        try:
            call()
            opened[name, on_error] += 1
        except (ValueError, OSError) as error:
            refused[name, on_error] += 1
            message = str(error)
        assert str(folder) in message or "empty memory" in message
        (folder / name).write_bytes(original[name])
    segment, packed, plan, _ = names[1:]
    assert all(opened.values())
    assert all(refused["manifest.json", on_error] for on_error in ("raise", "skip"))
    assert refused[segment, "raise"] > opened[segment, "raise"]
    assert not any(refused[name, on_error] for name in (packed, plan) for on_error in ("raise", "skip"))
    assert expected.turns(pyhue.PixelMemory.open(folder)) == TURNS


def test_files_that_vanish_meanwhile_are_not_counted(folder, monkeypatch):
    """As a writer's do, which are renamed or removed."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}

    def gone(path, known=os.path.getsize):
        if str(path).endswith("segment-1.safetensors"):
            raise FileNotFoundError(path)
        return known(path)

    monkeypatch.setattr(os.path, "getsize", gone)
    assert bytes_in(folder) == sum(sizes.values()) - sizes["segment-1.safetensors"]
