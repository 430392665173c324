"""Threads, signals and forks around a search. Nothing here depends on how long anything takes."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from families import draw
from reference import assert_exact, assert_same, memory_of
from together import in_threads

import pyhue

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# All vectors equal: nothing can be dropped, so a search takes long.
LONG = """
import signal
import numpy as np, pyhue
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
memory = pyhue.PixelMemory(64, normalize=False)
memory.add(np.ones((1, 30_000, 64), np.float32), [0])
queries = np.full((30_000, 64), 2, np.float32)
"""


def test_other_python_threads_run_during_a_search():
    """Counts what another thread does within a single call of the compiled module."""
    memory = memory_of(np.ones((20_000, 64), np.float32))
    queries = np.full((1000, 64), 2, np.float32)
    memory.search(queries[:1])
    count, stop, within = 0, threading.Event(), [0]
    entered = {}

    def work():
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0)  # gives the lock back at once

    def watch(frame, event, function):
        if event.startswith("c_") and getattr(function, "__module__", "") == "pyhue._core":
            if event == "c_call":
                entered[function.__name__] = count
            else:
                within.append(count - entered.pop(function.__name__))

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # from here the lock changes hands only when it is released
    try:
        thread.start()
        sys.setprofile(watch)
        memory.search(queries)
    finally:
        sys.setprofile(None)
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert max(within) > 10


def test_interrupt_ends_a_long_search(run_python):
    """Ctrl-C while queries against an unlimited loop of searches; the memory works afterwards."""
    script = (
        LONG
        + """
import os, signal, threading, time
expected = memory.search(queries[:3], 5)

def interrupt():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    while True:
        memory.search(queries)
except KeyboardInterrupt:
    print("interrupted")
after = memory.search(queries[:3], 5)
assert (after.indices == expected.indices).all() and (after.distances == expected.distances).all()
print("works")
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["interrupted", "works"], done.stderr


@pytest.mark.parametrize("nth", range(1, 7))
def test_interrupt_between_the_steps_of_a_search(nth):
    """Whichever call of the compiled module an interrupt precedes, later searches are right."""
    vectors, queries = draw("relu60", 15_000, 16), draw("relu60", 20, 16, 1)
    memory = memory_of(vectors[:3000])
    memory.search(queries, 3)
    memory.add(vectors[None, 3000:], [0])
    calls = 0

    def watch(frame, event, function):
        nonlocal calls
        if event == "c_call" and getattr(function, "__module__", "") == "pyhue._core":
            calls += 1
            if calls == nth:
                raise KeyboardInterrupt

    sys.setprofile(watch)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            memory.search(queries, 3)
    finally:
        sys.setprofile(None)
    assert_exact(memory.search(queries, 3), queries, vectors)


def test_a_signal_handler_may_raise_anything(run_python):
    script = (
        LONG
        + """
import signal

def handler(number, frame):
    raise RuntimeError("enough")

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    while True:
        memory.search(queries)
except RuntimeError as error:
    print(error)
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["enough"], done.stderr


def test_a_signal_handler_that_returns_ends_nothing(run_python):
    script = (
        LONG
        + """
import signal
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
while not seen:
    result = memory.search(queries[:500], 3)
assert (result.indices == [0, 1, 2]).all() and (result.distances == 64).all()
print("whole")
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["whole"], done.stderr


FORK = """
import multiprocessing, os, warnings
import numpy as np, pyhue
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads at a fork
pyhue.set_num_threads(2)
random = np.random.default_rng(0)
memory = pyhue.PixelMemory(32)
memory.add(random.random((40, 49, 32), np.float32), np.arange(40))
queries = random.random((500, 32), np.float32)
expected = memory.search(queries)

def same(_=0):
    found = memory.search(queries)
    return bool((found.indices == expected.indices).all() and (found.distances == expected.distances).all())
"""


@forks
def test_search_after_fork(run_python):
    """The pool's threads do not exist in a child, nor in a child's child."""
    script = (
        FORK
        + """
def fork(depth):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if same() and (depth == 0 or fork(depth - 1) == 0) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

print(fork(2), same(), fork(0))
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["0", "True", "0"], done.stderr


@forks
def test_search_in_forked_workers(run_python):
    script = (
        FORK
        + """
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(same, range(6))), same())
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_concurrent_searches(threads):
    memory = memory_of(draw("relu60", 2000, 64))
    batches = [draw("relu60", 50, 64, seed) for seed in range(1, 5)]
    expected = [memory.search(batch, 5) for batch in batches]
    for _ in range(10):
        results = in_threads([lambda batch=batch: memory.search(batch, 5) for batch in batches])
        for result, single in zip(results, expected, strict=True):
            assert_same(result, single)


def test_concurrent_first_searches(threads):
    """What the first search prepares is prepared once, whoever comes first."""
    vectors = draw("relu60", 20_000, 16)
    batches = [draw("relu60", 50, 16, seed) for seed in range(1, 5)]
    expected = [memory_of(vectors).search(batch, 5) for batch in batches]
    for _ in range(10):
        memory = memory_of(vectors[:19_000])
        memory.search(batches[0], 1)
        memory.add(vectors[None, 19_000:], [1])
        for searched in (memory, memory_of(vectors)):
            results = in_threads([lambda m=searched, b=batch: m.search(b, 5) for batch in batches])
            for result, single in zip(results, expected, strict=True):
                assert_same(result, single)


def test_concurrent_memories(threads):
    """Searches of different memories, sizes and k at once."""
    cases = [
        (draw("lattice", n, dim), draw("lattice", 30, dim, 1), k) for n, dim, k in [(70, 3, 1), (3000, 40, 9)]
    ]
    memories = [memory_of(vectors) for vectors, _, _ in cases]
    tasks = [lambda m=m, q=q, k=k: m.search(q, k) for m, (_, q, k) in zip(memories, cases, strict=True)] * 2
    expected = [task() for task in tasks]
    for _ in range(10):
        for result, single in zip(in_threads(tasks), expected, strict=True):
            assert_same(result, single)


def test_changing_the_threads_between_searches():
    memory, queries = memory_of(draw("relu60", 3000, 20)), draw("relu60", 100, 20, 1)
    before = pyhue.get_num_threads()
    expected = memory.search(queries)
    try:
        for count in (1, 5, 2, 16, 3, 1):
            pyhue.set_num_threads(count)
            assert pyhue.get_num_threads() == count
            assert_same(memory.search(queries), expected)
    finally:
        pyhue.set_num_threads(before)


def test_interrupt_while_queries_are_prepared(run_python):
    """Wherever in the core a handler raises, its exception comes through and nothing else does."""
    done = run_python("""
import signal
import numpy as np
import pyhue

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGALRM, stop)
memory = pyhue.PixelMemory(512, normalize=False)
memory.add(np.ones((1, 1, 512), np.float32), [0])  # one vector: preparing the queries takes all the time
memory.search(np.ones((1, 512), np.float32), 1)
index, stored = memory._memory._on_cpu.index, memory._newest()
queries = np.random.default_rng(0).random((5000, 512), np.float32)
pieces = [pyhue._core.Piece(stored.array, piece.core) for piece in index._pieces]
arguments = pieces, pyhue._core.Layout(*index._pieces[0].layout), index._queries(np.tile(queries, (6, 1)))
outcomes = set()
for i in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05 + 0.005 * i)
        pyhue._core.search(*arguments, 1)
        outcomes.add("finished")
    except Stop:
        outcomes.add("stopped")
    except SystemError as error:
        outcomes.add(repr(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print(*outcomes - {"finished"})
""")
    assert done.stdout.strip() in ("", "stopped"), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_workers_keep_off_the_callers_cpu_and_the_caller_stays_as_it_was():
    code = """
import os
import numpy as np
import pyhue
cpus = os.sched_getaffinity(0)
cpu = min(cpus)
before = set(os.listdir("/proc/self/task"))
pyhue.set_num_threads(2)
memory = pyhue.PixelMemory(8)
os.sched_setaffinity(0, {cpu})  # so that the caller is there
os.sched_setaffinity(0, cpus)
vectors = np.random.default_rng(0).random((5000, 1, 8), np.float32)
memory.add(vectors, np.zeros(5000, int))
memory.search(vectors[:, 0])
workers = set(os.listdir("/proc/self/task")) - before
masks = [os.sched_getaffinity(int(worker)) for worker in workers]
assert os.sched_getaffinity(0) == cpus
assert workers and all(mask <= cpus for mask in masks)
assert len(cpus) == 1 or all(len(mask) == len(cpus) - 1 for mask in masks), masks
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@forks
def test_a_lock_that_is_held_is_open_in_a_forked_process(run_python):
    """Of a memory that another thread optimises, or adds to, when the process forks."""
    script = (
        FORK
        + """
import threading
from pyhue._cuda import search as device_search
from pyhue._search import host
begun, end = threading.Event(), threading.Event()

def slow(*_):
    begun.set()
    end.wait()

host.optimized = slow
thread = threading.Thread(target=memory.optimize, daemon=True)
thread.start()
begun.wait()
adding = memory._memory._adding.held()
adding.__enter__()
pid = os.fork()
if pid == 0:
    from pyhue._search.optimize import optimized
    host.optimized = optimized
    memory.add(random.random((2, 49, 32), np.float32), [0, 1])
    memory.optimize()
    os._exit(0 if len(memory) == 42 * 49 and "gf_eq" in memory.explain() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), same())
end.set()
"""
    )
    done = run_python(script)
    assert done.stdout.split() == ["0", "True"], done.stderr
