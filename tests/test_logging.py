"""What is logged under "pyhue": how memories are packed. Nothing is shown unless asked for."""

import logging

import numpy as np

from pyhue import VectorMemory


def test_the_plan_is_logged(caplog):
    memory = VectorMemory(16)
    memory.add(np.random.default_rng(0).random((300, 16)))
    with caplog.at_level(logging.INFO, "pyhue"):
        memory.search(np.ones(16))
        assert not caplog.messages
        memory.optimize()
    (message,) = caplog.messages
    assert message.startswith("packed 300 vectors of 16 channels in ")
    explained = memory.explain()
    assert f"plan {explained['plan']}, stages {tuple(explained['block_ends'])} in blocks" in message


def test_candidates_are_logged_for_those_who_look_closer(caplog):
    memory = VectorMemory(16)
    memory.add(np.random.default_rng(0).random((300, 16)))
    with caplog.at_level(logging.DEBUG, "pyhue"):
        memory.optimize()
    assert sum(message.startswith("estimated ") for message in caplog.messages) == 2  # plain and principal


def test_nothing_is_shown_by_itself(run_python):
    code = "import logging, pyhue; logging.getLogger('pyhue').warning('a word')"
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "a word" not in done.stdout + done.stderr
