"""A memory that several processes search together: the bits of one, whoever asks, and who was lost."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import folder_states
import numpy as np
import pytest

pytest.importorskip("torch")

import sharded
from sharded import DIM, images

import pyhue
from pyhue._files.tensors import save_tensors
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.shard import shares

EXAMPLE = Path(__file__).parents[1] / "examples" / "sharded_search.py"
#: The last: or torch's own group may find addresses of processes that torchrun began before.
LOCAL = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A memory of five segments of which some was removed, packed."""
    folder_states.planned(monkeypatch)
    folder = tmp_path / "memory"
    pyhue.PixelMemory(DIM).save(folder)
    with pyhue.PixelMemory.open(folder, "a") as writer:
        for turn, count in enumerate((9, 2, 1, 3, 3)):
            writer.add(*images(count, turn))
            writer.flush()
        writer.remove(rows=[0, 5, 54, 70, 100], images=[8])
        writer.optimize()
    return folder


def started(what, count, folder):
    environment = os.environ | LOCAL
    arguments = [sys.executable, sharded.__file__, what]
    return [
        subprocess.Popen(
            [*arguments, str(rank), str(count), str(folder)], env=environment, stderr=subprocess.PIPE
        )
        for rank in range(count)
    ]


def results(processes, folder, ranks=None):
    """What each of them wrote."""
    for process in processes:
        _, told = process.communicate(timeout=180)
        assert process.returncode in (0, -signal.SIGKILL), told.decode()
    ranks = range(len(processes)) if ranks is None else ranks
    return [pickle.loads((folder.parent / f"result{rank}").read_bytes()) for rank in ranks]


def assert_answers(found, memory, asked):
    for got, (name, arguments, chosen) in zip(found, asked, strict=True):
        expected = getattr(memory, name)(*arguments, **chosen)
        if not isinstance(expected, tuple):
            got, expected = (got,), (expected,)
        assert type(got) is type(expected)
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [2, 4])
def test_the_bits_of_one_process(folder, count):
    memory = pyhue.PixelMemory.open(folder)
    given = results(started("answers", count, folder), folder)
    for found, (size, classes, counts, _) in given:
        assert size == len(memory) == 108
        np.testing.assert_array_equal(classes, memory.classes)
        np.testing.assert_array_equal(counts, memory.class_counts)
        assert_answers(found, memory, sharded.calls(memory, size, 18))
    here = [state[3] for _, state in given]
    assert sum(here) == 108
    assert (0 not in here) == (count < 5)


def test_more_processes_than_segments(tmp_path):
    memory = pyhue.VectorMemory(DIM)
    memory.add(images(10)[0].reshape(60, DIM))
    memory.remove([3, 59])
    memory.save(tmp_path / "memory")
    for found, (_, _, _, here) in results(started("answers", 2, tmp_path / "memory"), tmp_path / "memory"):
        assert here in (0, 60)
        assert_answers(found, memory, sharded.vectors_only(memory, 60, 0))


def test_with_a_recall(tmp_path, monkeypatch):
    monkeypatch.setattr("pyhue._search.clustering._SIZE", 64)
    with monkeypatch.context() as patch:
        folder_states.planned(patch)
        pyhue.PixelMemory(96).save(tmp_path / "memory")
        with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
            for turn, count in enumerate((300, 500, 200)):
                writer.add(*sharded.recall_images(count, turn))
                writer.flush()
            writer.remove(images=[3, 700])
            writer.optimize()
    memory = pyhue.PixelMemory.open(tmp_path / "memory")
    exact = memory.search(sharded.recall_images(10, 3)[0])
    assert (memory.search(sharded.recall_images(10, 3)[0], recall=0.8).indices != exact.indices).any()
    for *found, share, most in results(started("recalled", 2, tmp_path / "memory"), tmp_path / "memory"):
        assert_answers(found, memory, sharded.with_recall(memory))
        assert share == "rank 0: recall: expected above 0 and at most 1, got 2"
        assert most == "rank 0: k: expected at most 100 with a recall, got 101"


def test_what_one_does_wrong_all_are_told(folder):
    pyhue.PixelMemory(DIM).save(folder.parent / "other")
    found = results(started("errors", 3, folder), folder)
    assert found[0] == found[1] == found[2]
    expected = [
        "ValueError: queries: expected on one rank or on all 3, got on 2",
        "ValueError: queries: expected on one rank or on all 3, got on 0",
        "ValueError: k: expected the same on all ranks",
        "ValueError: rank 1: queries: expected shape (..., 24), got (4, 3)",
        "ValueError: rank 0: k: expected at least 1, got 0",
        "ValueError: queries: expected the same on all ranks",
        "ValueError: rank 0: queries: expected finite",
        "ValueError: rank 0: where: expected at most 108 values, one for each row, got 109",
        "ValueError: rank 0: exclude: expected -1 to 17",
        "ValueError: rank 0: queries: expected shape (n, 24), got (1, 4, 24)",
        "ValueError: rank 0: activations: ",
        "FileNotFoundError: [Errno 2] rank 1: No such file",
        "ValueError: rank 1: broken",
        "ValueError: where, exclude: expected the same on all ranks",
        "ValueError: memory: expected the same call on all ranks, got refresh on rank 0, search on rank 1, s",
        "ValueError: memory: expected the same call on all ranks, got search on rank 0, within on rank 1, s",
        f"OSError: {folder}, {folder.parent / 'other'}: ranks found different memories",
    ]
    for got, begin in zip(found[0], expected, strict=True):
        assert got.startswith(begin)


def test_closed_memories_and_groups_of_others(folder):
    outside, (radius, *closed, explained) = results(started("edges", 2, folder), folder)
    assert outside == ["ValueError: group: expected one of rank 0, got one of ranks [1]"] * 2
    assert radius == "TypeError: rank 1: radius: expected a number, got NoneType"
    assert closed == ["ValueError: memory: closed"] * 3
    memory = pyhue.PixelMemory.open(folder)
    memory.search(sharded.draw("relu60", 4, DIM, 5))
    expected = memory.explain() | {"rank": 0, "ranks": 1}
    assert explained.pop("last_search").keys() == expected.pop("last_search").keys()  # threads differ
    assert explained == expected


def test_messages_of_all_lengths(folder):
    for found, sizes in results(started("lengths", 3, folder), folder):
        assert found == [[bytes([rank]) * size for rank in range(3)] for size in sizes]


def test_what_is_written_meanwhile(tmp_path):
    memory = pyhue.PixelMemory(DIM)
    memory.add(*images(10))
    memory.save(tmp_path / "memory")
    queries = sharded.draw("relu60", 4, DIM, 5)
    given = results(started("changing", 2, tmp_path / "memory"), tmp_path / "memory")
    for turn in range(6):
        memory.add(*images(4, turn))
        memory.remove(images=[2 * turn])
        if turn % 2:
            memory.compact()
        for found in given:
            moved, again, result, counts = found[turn]
            assert moved
            assert not again
            for one, other in zip(result, memory.search(queries, 20), strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(counts, memory.class_counts)


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("what", ["losing", "stopping"])
def test_who_was_lost_is_named(folder, what, lost):
    count = 4 if (what, lost) == ("losing", 2) else 3
    processes = started(what, count, folder)
    end = time.monotonic() + 120
    while not all((folder.parent / f"ready{rank}").exists() for rank in range(count)):
        assert time.monotonic() < end
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    time.sleep(0.1)
    how = signal.SIGKILL if what == "losing" else signal.SIGSTOP
    begin = time.monotonic()
    processes[lost].send_signal(how)
    others = [rank for rank in range(count) if rank != lost]
    for rank in others:
        processes[rank].wait(timeout=100)
    seconds = time.monotonic() - begin
    processes[lost].kill()
    for message, _ in results(processes, folder, others):
        assert message.startswith(f"rank {lost} ")
        assert "did not answer within 2 s" in message or (what, lost) != ("stopping", 2)
    assert seconds < 40


def test_who_stops_before_the_answer_is_named(folder):
    processes = started("deaf", 3, folder)
    for rank in (0, 1):
        processes[rank].wait(timeout=100)
    processes[2].kill()
    for message, seconds in results(processes, folder, (0, 1)):
        assert message == "rank 2 did not answer within 2 s"
        assert seconds < 40


def test_torchrun_begins_anew(folder):
    script = folder.parent / "search.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "import torch.distributed as dist\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import sharded\n"
        "from pyhue.distributed import ShardedMemory\n"
        "dist.init_process_group('gloo')\n"
        f"memory = ShardedMemory({str(folder)!r}, timeout=60)\n"
        "queries = sharded.draw('relu60', 4, sharded.DIM, 5)\n"
        "memory.search(queries)\n"
        "if dist.get_rank() == 1 and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "found = json.dumps(memory.search(queries).indices.tolist())\n"
        f"Path({str(folder.parent)!r}, f'found{{dist.get_rank()}}').write_text(found)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    environment = os.environ | LOCAL
    run = subprocess.run(
        [*command, "--standalone", str(script)], capture_output=True, text=True, timeout=180, env=environment
    )
    assert run.returncode == 0, run.stderr
    expected = pyhue.PixelMemory.open(folder).search(sharded.draw("relu60", 4, DIM, 5)).indices.tolist()
    for rank in range(2):
        assert json.loads((folder.parent / f"found{rank}").read_text()) == expected
    assert "ConnectionError: rank 1 was lost" in run.stderr


def test_the_example(folder, tmp_path):
    maps, labels = images(5, 9)
    maps = maps.reshape(5, 2, 3, DIM).transpose(0, 3, 1, 2).astype(np.float16)
    metadata = {"format": "pyhue.features", "version": "1", "source": "{}", "names": json.dumps(["a"] * 5)}
    metadata["classes"] = json.dumps([str(label) for label in range(7)])
    save_tensors(tmp_path / "features", metadata, {"labels": labels, "activations": maps})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    run = subprocess.run(
        [*command, str(EXAMPLE), str(folder), str(tmp_path / "features")],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | LOCAL,
    )
    assert run.returncode == 0, run.stderr
    right = np.mean(pyhue.PixelMemory.open(folder).predict(maps) == labels)
    assert f"{right:.1%} of 5 images" in run.stdout
    assert run.stdout.count("of 108 vectors here") == 2


def test_shares():
    entries = tuple(Entry(number, rows, "") for number, rows in enumerate((9, 1, 5, 5, 2), 1))
    manifest = Manifest("", 1, True, "float32", segments=entries)
    for count in (1, 2, 3, 5, 7):
        found = shares(manifest, count)
        assert sorted((entry for own in found for entry in own), key=lambda entry: entry.number) == list(
            entries
        )
        assert all(own == sorted(own, key=lambda entry: entry.number) for own in found)
    assert [sum(entry.rows for entry in own) for own in shares(manifest, 2)] == [11, 11]


def test_a_group_is_needed(folder):
    from pyhue.distributed import ShardedMemory

    with pytest.raises(RuntimeError, match=r"group: torch\.distributed has none"):
        ShardedMemory(folder)
