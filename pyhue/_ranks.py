"""Processes of a torch.distributed group that talk through the first, so that a lost one has a name."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

import numpy as np

_Answer: TypeAlias = "tuple[Exception | None, Any]"  # what all raise, or what `merge` made
_TIMED_OUT = "imed out"  # in what gloo says of waiting that is over
_FIRST = 4096  # bytes of a first message: all, if it is short; a second one has the rest
_LENGTH = 8  # bytes in front that tell how much there is
_AFTER = 10.0  # seconds that others wait for the name of who was lost, when all waiting is over


class Failed(NamedTuple):
    """In the place of what a process gives: the error that it found instead."""

    error: Exception


def attempt(call: Callable[[], Any]) -> Any:
    """What a call returns, or `Failed`."""
    try:
        return call()
    except Exception as error:
        return Failed(error)


class Ranks:
    """Processes that share what each of them gives.

    Each sends to the first one, which answers all: so it is the first that notices who does not send, and
    the others hear it from the first. Two gloo groups: where waiting for somebody ends, gloo closes a whole
    group, and the other has the name to tell.

    Args:
        group: of torch.distributed; None: all processes. Of whatever backend.
        timeout: seconds that the first waits for another.
    """

    def __init__(self, group: Any, timeout: float):
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "group: torch.distributed has none; run under torchrun and call init_process_group first"
            )
        self.ranks: list[int] = dist.get_process_group_ranks(group or dist.group.WORLD)
        if dist.get_rank() not in self.ranks:
            raise ValueError(f"group: expected one of rank {dist.get_rank()}, got one of ranks {self.ranks}")
        self.number = self.ranks.index(dist.get_rank())  #: of this process, among them
        self.left = False  #: `close` was called
        self._timeout = timeout
        self._lost: list[int] = []  # by the first: whom it could not talk with
        self._closed = False  # by the first: whether it waited in vain, which closed the group
        name = [uuid.uuid4().hex]
        dist.broadcast_object_list(name, self.ranks[0], group)
        # A name of its own: under `new_group`'s the store may hold what processes left that were here before.
        longest = timedelta(seconds=3 * timeout + _AFTER)
        self._talk, self._alarm = (
            dist.ProcessGroupGloo(
                PrefixStore(f"pyhue-{name[0]}-{number}", _get_default_store()),
                self.number,
                len(self.ranks),
                longest,
            )
            for number in range(2)
        )

    def __len__(self) -> int:
        return len(self.ranks)

    def close(self) -> None:
        """Closes all connections; once more does nothing."""
        if not self.left:
            self.left = True
            del self._talk, self._alarm

    def share(self, given: Any, merge: Callable[[list[Any]], Any], call: str = "") -> Any:
        """What `merge` makes of what all give, in the order of their ranks; all call this.

        `call`: what was called that begins with this, to be the same on all.

        Raises:
            ConnectionError: a process was lost, or did not come in time; it is named.
            ValueError: the connections were closed; or calls differ, on all.
            Exception: what somebody gave as `Failed`, or `merge` raised, on all.
        """
        self.require_open()
        told = call, given
        error, answer = self._first(told, merge) if self.number == 0 else self._other(told)
        if error is not None:
            raise error
        return answer

    def require_open(self) -> None:
        """Raises ValueError where it was closed."""
        if self.left:
            raise ValueError("memory: closed")

    def _first(self, told: tuple[str, Any], merge: Callable[[list[Any]], Any]) -> _Answer:
        found = [told]
        for number in range(1, len(self.ranks)):
            if self._closed:  # nobody is heard any more
                break
            self._try(number, lambda number=number: found.append(self._heard(number)))  # type: ignore[misc]
        answer: _Answer
        if self._lost:
            names = ", ".join(str(self.ranks[number]) for number in sorted(self._lost))
            why = f"did not answer within {self._timeout:g} s" if self._closed else "was lost"
            answer = ConnectionError(f"rank {names} {why}"), None
        else:
            answer = _merged(found, merge, self.ranks)
        for number in range(1, len(self.ranks)):  # whom that loses all hear the next time
            self._try(number, lambda number=number: self._tell(answer, number))  # type: ignore[misc]
        return answer

    def _heard(self, number: int) -> Any:
        return _receive(self._talk, number, self._timeout)

    def _tell(self, answer: _Answer, number: int) -> None:
        _send(answer, self._alarm if self._closed else self._talk, number, self._timeout)

    def _try(self, number: int, call: Callable[[], None]) -> None:
        """Talks with one that was not lost; it is, where that fails."""
        if number in self._lost:
            return
        try:
            call()
        except RuntimeError as error:
            self._lost.append(number)
            self._closed = self._closed or _TIMED_OUT in str(error)

    def _other(self, told: tuple[str, Any]) -> _Answer:
        longest = 2 * self._timeout + _AFTER  # the first waits for others, too
        answer: _Answer
        try:
            _send(told, self._talk, 0, longest)
            answer = _receive(self._talk, 0, longest)
            return answer
        except RuntimeError as error:
            # Where the first closed the group, it may be at work before it says why; of a lost one the other
            # group is closed, too.
            wait = _AFTER if _TIMED_OUT in str(error) else longest
        try:
            answer = _receive(self._alarm, 0, wait)
            return answer
        except RuntimeError:
            return ConnectionError(f"rank {self.ranks[0]} was lost"), None


def _send(value: Any, group: Any, number: int, seconds: float) -> None:
    import torch

    content = pickle.dumps(value, protocol=5)
    end = _LENGTH + len(content)
    whole = np.zeros(max(_FIRST, end), np.uint8)
    whole[:_LENGTH] = np.frombuffer(len(content).to_bytes(_LENGTH, "little"), np.uint8)
    whole[_LENGTH:end] = np.frombuffer(content, np.uint8)
    for part in (whole[:_FIRST], whole[_FIRST:]):
        if len(part):
            group.send([torch.from_numpy(part)], number, 0).wait(timedelta(seconds=seconds))


def _receive(group: Any, number: int, seconds: float) -> Any:
    import torch

    whole = np.empty(_FIRST, np.uint8)
    group.recv([torch.from_numpy(whole)], number, 0).wait(timedelta(seconds=seconds))
    end = _LENGTH + int.from_bytes(whole[:_LENGTH], "little")
    if end > _FIRST:
        whole = np.concatenate((whole, np.empty(end - _FIRST, np.uint8)))
        group.recv([torch.from_numpy(whole[_FIRST:])], number, 0).wait(timedelta(seconds=seconds))
    return pickle.loads(whole[_LENGTH:end].data)


def _merged(told: list[tuple[str, Any]], merge: Callable[[list[Any]], Any], ranks: list[int]) -> _Answer:
    calls, found = zip(*told, strict=True)
    if len(set(calls)) > 1:
        each = ", ".join(
            f"{call or 'another'} on rank {rank}" for rank, call in zip(ranks, calls, strict=True)
        )
        return ValueError(f"memory: expected the same call on all ranks, got {each}"), None
    failed = [(rank, each.error) for rank, each in zip(ranks, found, strict=True) if isinstance(each, Failed)]
    if failed:
        rank, error = failed[0]
        return _of_rank(rank, error), None
    try:
        return None, merge(list(found))
    except Exception as error:
        return error, None


def _of_rank(rank: int, error: Exception) -> Exception:
    """The same kind of error, where it is one of Python's own, saying whose it was."""
    text = f"rank {rank}: {error}"
    kinds = (ValueError, TypeError, FileNotFoundError, OSError, NotImplementedError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
    if isinstance(error, OSError) and error.errno is not None:
        return kind(error.errno, f"rank {rank}: {error.strerror}", error.filename)
    return kind(text)
