"""A process of tests/test_distributed.py: python sharded.py WHAT RANK COUNT FOLDER."""

import os
import pickle
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from families import draw

import pyhue
from pyhue import _ranks, distributed
from pyhue.distributed import ShardedMemory

DIM = 24
distributed._PAIRS_WORTH_AGREEING = 0  # small searches too, which otherwise do without


def images(count, seed=0):
    maps = draw("relu60", count * 6, DIM, seed).reshape(count, 6, DIM).copy()
    maps[::7, 0] = 0  # vectors without a direction
    return maps, np.arange(count) * 3 % 7


def calls(memory, size, images):
    """What is asked of a memory, of all processes or of one."""
    rng = np.random.default_rng(0)
    queries, maps = (
        draw("relu60", 12, DIM, 5).reshape(2, 6, DIM),
        draw("relu60", 18, DIM, 6).reshape(3, 6, DIM),
    )
    queries[0, 0] = 0
    few, half = rng.random(size) < 0.02, rng.random(size - 3) < 0.5
    per = [0, images - 1]
    for chosen in ({}, {"where": few}, {"where": half, "labels": [0, 3]}, {"labels": [77]}, {"exclude": per}):
        for k in (1, 10, size):
            yield "search", (queries, k), chosen
        flat = chosen | ({"exclude": np.repeat(per, 6)} if "exclude" in chosen else {})
        yield "within", (queries.reshape(12, DIM), 0.9), flat
        images_out = chosen | ({"exclude": [*per, -1]} if "exclude" in chosen else {})
        yield "log_likelihood", (maps, 4), images_out
        yield "predict", (maps, 4), images_out


def vectors_only(memory, size, images):
    queries = draw("relu60", 12, DIM, 5)
    rows = np.arange(12) * (size // 12)
    for chosen in ({}, {"exclude": rows}, {"where": np.arange(size) % 3 == 0, "exclude": rows}):
        yield "search", (queries, 10), chosen
        yield "within", (queries, 0.9), chosen


def answers(folder, rank, count):
    """What a sharded memory answers, given to all and to one of them; what it says of itself."""
    memory = ShardedMemory(folder)
    size, found = len(memory), []
    asked = calls if memory.classes.size else vectors_only
    last = 18 if memory.classes.size else 0
    for number, (name, (first, *rest), chosen) in enumerate(asked(memory, size, last)):
        found.append(getattr(memory, name)(first, *rest, **chosen))
        if number % count == rank:
            again = getattr(memory, name)(torch.from_numpy(first), *rest, **chosen)
            assert all(
                isinstance(part, torch.Tensor) for part in (again if isinstance(again, tuple) else [again])
            )
        else:
            again = getattr(memory, name)()
        for one, other in zip(
            *((part if isinstance(part, tuple) else (part,)) for part in (found[-1], again)), strict=True
        ):
            np.testing.assert_array_equal(one, np.asarray(other))
    state = len(memory), memory.classes, memory.class_counts, memory.explain()["vectors"]
    memory.close()
    return found, state


def breaking(memory, rank):
    """The same; once, one rank fails while the others wait for what is near there."""

    def broken(*arguments):
        del memory._shard.nearest
        raise ValueError("broken")

    if rank == 1:
        memory._shard.nearest = broken
    return memory


def with_recall(memory):
    """What is asked with a recall, of all processes or of one."""
    rng, size = np.random.default_rng(0), len(memory)
    maps = recall_images(10, 3)[0]
    half, few = rng.random(size) < 0.5, rng.random(size) < 0.02
    for chosen in ({}, {"where": half}, {"where": few}, {"labels": [0, 3]}, {"exclude": np.arange(10)}):
        for k in (1, 10):
            yield "search", (maps, k), chosen | {"recall": 0.8}
        yield "log_likelihood", (maps, 4), chosen | {"recall": 0.8}
        yield "predict", (maps, 4), chosen | {"recall": 0.8}


def recall_images(count, seed):
    """Of variance that falls from channel to channel, so that clusters pay."""
    maps = np.random.default_rng(seed).standard_normal((count, 5, 96)) * 0.9 ** np.arange(96)
    return maps.astype(np.float32), np.arange(count) % 4


def recalled(folder, rank, count):
    """What a sharded memory answers with a recall, and what it refuses."""
    memory = ShardedMemory(folder)
    found = [getattr(memory, name)(*given, **chosen) for name, given, chosen in with_recall(memory)]
    for wrong in ({"recall": 2}, {"recall": 0.9, "k": 101}):
        try:
            memory.search(recall_images(2, 3)[0], **wrong)
        except ValueError as error:
            found.append(str(error))
    return found


def errors(folder, rank, count):
    """What all raise, whoever is wrong."""
    memory, queries = ShardedMemory(folder), draw("relu60", 4, DIM, 5)
    wrong = [
        lambda: memory.search(queries if rank else None),
        lambda: memory.search(None),
        lambda: memory.search(queries, 1 + rank),
        lambda: memory.search(queries[:, :3] if rank == 1 else None),
        lambda: memory.search(queries, 0),
        lambda: memory.search(queries * (np.nan if rank == 1 else 1)),
        lambda: memory.search(np.where(rank < 9, np.nan, queries)),
        lambda: memory.search(queries, where=np.ones(len(memory) + 1, bool)),
        lambda: memory.search(queries, exclude=[10**6] * 4),
        lambda: memory.within(queries[None], 1.0),
        lambda: memory.log_likelihood(queries),
        lambda: ShardedMemory(folder / f"nowhere{rank}" if rank == 1 else folder),
        lambda: breaking(memory, rank).search(queries),
        lambda: memory.search(queries, exclude=[rank] * 4, where=np.arange(len(memory)) > rank),
        lambda: memory.search(queries) if rank else memory.refresh(),
        lambda: memory.within(queries, 1.0) if rank == 1 else memory.search(queries),
        lambda: ShardedMemory(folder.parent / "other" if rank == 1 else folder),
    ]
    found = []
    for call in wrong:
        try:
            call()
            found.append("nothing")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    assert memory.search(queries).indices.shape == (4, 10)  # all are at the same place still
    return found


def edges(folder, rank, count):
    """What is closed, and a group of which one rank is no member."""
    found, queries = [], draw("relu60", 4, DIM, 5)

    def told(call):
        try:
            call()
            found.append("nothing")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")

    group = dist.new_group([1])
    if rank == 0:
        told(lambda: ShardedMemory(folder, dist.distributed_c10d.GroupMember.NON_GROUP_MEMBER))
        told(lambda: ShardedMemory(folder, group))
    else:
        os.chdir(folder.parent)
        relative = ShardedMemory(folder.name, group)
        os.chdir("/")
        assert not relative.refresh()
        relative.close()
        with pytest.raises(ValueError, match="memory: closed"):
            relative.explain()
        with pytest.raises(ValueError, match="memory: closed"), relative:
            pass
        with ShardedMemory(folder, group) as memory:
            assert memory.explain()["gf_eq"] > 0  # before it is searched
            assert memory.search(queries).indices.shape == (4, 10)
            explained = memory.explain()
            for each in (memory.classes, memory.class_counts):
                assert not each.flags.writeable
            told(lambda: memory.within(queries))
            memory.close()
            memory.close()
        for call in (
            lambda: memory.search(queries),
            memory.refresh,
            lambda: memory.predict(None),
        ):
            told(call)
        found.append(explained)
    return found


def lengths(folder, rank, count):
    """What arrives of messages as long as a first one, somewhat shorter and somewhat longer."""
    ranks = _ranks.Ranks(None, 60.0)
    longest = _ranks._FIRST - _ranks._LENGTH
    pickled = len(pickle.dumps(bytes(longest), protocol=5)) - longest
    sizes = [longest - pickled + more for more in range(-2, 3)] + [3 * _ranks._FIRST]
    return [ranks.share(bytes([rank]) * size, lambda parts: parts) for size in sizes], sizes


def changing(folder, rank, count):
    """What ranks find while the first of them writes to the folder."""
    memory, queries, found = ShardedMemory(folder), draw("relu60", 4, DIM, 5), []
    for turn in range(6):
        if rank == 0:
            with pyhue.PixelMemory.open(folder, "a") as writer:
                writer.add(*images(4, turn))
                writer.remove(images=[2 * turn])
                if turn % 2:
                    writer.compact()
        dist.barrier()
        moved = memory.refresh()
        found.append((moved, memory.refresh(), memory.search(queries, 20), memory.class_counts))
    return found


def losing(folder, rank, count, how=signal.SIGKILL):
    """What the others are told when one is killed, and when it does not answer."""
    memory, queries = (
        ShardedMemory(folder, timeout=60 if how == signal.SIGKILL else 2),
        draw("relu60", 4, DIM, 5),
    )
    memory.search(queries)
    (folder.parent / f"ready{rank}").touch()
    return told(memory)


def told(memory):
    """What searches say at last, and after how many seconds."""
    begin = time.monotonic()
    try:
        while True:
            memory.search(draw("relu60", 4, DIM, 5))
            time.sleep(0.01)
    except ConnectionError as error:
        return str(error), time.monotonic() - begin


def stopping(folder, rank, count):
    return losing(folder, rank, count, signal.SIGSTOP)


def deaf(folder, rank, count):
    """The last stops when it waits for the answer, which the first cannot get rid of."""
    memory = ShardedMemory(folder, timeout=2)
    memory.search(draw("relu60", 4, DIM, 5))
    if rank == count - 1:
        _ranks._receive = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)
    return told(memory)


if __name__ == "__main__":
    what, rank, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    pyhue.set_num_threads(1)
    store = dist.FileStore(str(folder.parent / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timedelta(seconds=60))
    result = globals()[what](folder, rank, count)
    (folder.parent / f"result{rank}").write_bytes(pickle.dumps(result))
    os._exit(0)  # no goodbye among processes of which some are gone
