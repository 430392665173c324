"""A memory that several processes search together, each a part of it: `torchrun`, one machine or several."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import asked_recall, floating, integers, like, neighbor_count, positive_number
from pyhue._ranks import Failed, Ranks, attempt
from pyhue._saved.manifest import Manifest
from pyhue._saved.memory import PIXELS
from pyhue._saved.shard import Shard
from pyhue._search.index import Agreed
from pyhue._search.labelled import read_only
from pyhue._search.merge import merged_nearest, merged_within
from pyhue._search.selection import Selection, is_few, largest_radius, selection
from pyhue._search.stored import require_queries
from pyhue.density import densities
from pyhue.pixel_vectors import image_vectors
from pyhue.vector_memory import SearchResult, WithinResult

__all__ = ["ShardedMemory"]

_PAIRS_WORTH_AGREEING = 3_000_000  # of a query and a vector; 2 to 10 million: no difference measured
_TRIES = 20  # to find all ranks at the same state of a folder that somebody writes to


@dataclass(frozen=True, eq=False)
class _Request:
    """What is asked, checked."""

    vectors: NDArray[np.floating[Any]]  #: (n, dim)
    shape: tuple[int, ...]  #: that results have, but for the last dimension
    chosen: Selection
    numbers: dict[str, Any]

    def digest(self) -> dict[str, Any]:
        """Of each argument: equal for equal ones, and as good as never for others."""
        found = {"queries": (self.shape, _checksum(self.vectors))} | self.numbers
        for name in ("where", "labels", "exclude"):
            array = getattr(self.chosen, name)
            found[name] = None if array is None else _checksum(array)
        return found


class ShardedMemory:
    """The memory in a folder, searched by all processes of a group; each maps and searches some segments.

    Every method but `explain` and `close` is collective: all processes of the group call it, with the same
    arguments or, all but one of them, without queries. The results are the same everywhere, and the same bits
    as those of one process that opens the folder. To change the memory, open it in one process with mode "a";
    then all `refresh`.

    A process that is killed, or whose machine is lost, is named in a ConnectionError on the others: at once
    where its connections close, else after `timeout`. `torchrun --max-restarts` then begins anew, from the
    folder, which searches do not change.

    Args:
        folder: of a memory, that all processes can read.
        group: a process group of torch.distributed, of any backend; None: all processes. Default None.
        timeout: seconds that one process waits for another, at least as long as the slowest search takes.
            Default 600.

    Raises:
        RuntimeError: torch.distributed is not initialised.
        OSError, ValueError: as `PixelMemory.open`, on all processes; the message names the rank.

    Example::

        torch.distributed.init_process_group("gloo")
        memory = pyhue.distributed.ShardedMemory("memory")
        distances, indices = memory.search(queries, k=10)     # on every rank
    """

    def __init__(self, folder: str | os.PathLike[str], group: Any = None, timeout: float = 600.0):
        self._ranks = Ranks(group, positive_number(timeout, "timeout"))
        self._path = Path(os.fsdecode(folder)).absolute()
        self._follow()

    def __len__(self) -> int:
        """How many vectors are stored, on all ranks."""
        return self._manifest.rows

    def __repr__(self) -> str:
        here = f"{len(self._shard.stored)} of {len(self)} vectors here"
        return f"ShardedMemory({str(self._path)!r}), rank {self._ranks.number} of {len(self._ranks)}: {here}"

    @property
    def dim(self) -> int:
        """Channels of a vector."""
        return self._manifest.dim

    @property
    def normalize(self) -> bool:
        """Whether vectors are scaled to unit length."""
        return self._manifest.normalize

    @property
    def dtype(self) -> str:
        """How vectors are stored."""
        return self._manifest.dtype

    @property
    def classes(self) -> NDArray[np.int64]:
        """As `PixelMemory.classes`; empty for vectors without labels."""
        return read_only(self._classes)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """As `PixelMemory.class_counts`: of all ranks."""
        return read_only(self._counts)

    def search(
        self,
        queries: Any = None,
        k: int = 10,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> SearchResult:
        """`PixelMemory.search` or `VectorMemory.search`, on all ranks together.

        Args:
            queries: (..., dim), the same on all ranks; or None on all but one of them, whose arguments then
                hold for all.
            k, where, labels, exclude, recall: as there.

        Returns:
            The same `SearchResult` on all ranks: tensors where this rank gave a tensor, else arrays.

        Raises:
            TypeError, ValueError: as there, on all ranks; or ranks gave different queries.
            ConnectionError: a rank was lost; it is named.
        """
        asked = self._asked(
            "search", queries, lambda: self._of_queries(queries, k, where, labels, exclude, recall)
        )
        count = asked.numbers["k"]
        found = self._nearest(asked, "queries", asked.chosen, lambda nearest: nearest[:2])
        distances, indices = self._ranks.share(found, lambda parts: merged_nearest(parts, count)[:2])
        shape = (*asked.shape, count)
        return SearchResult(like(distances.reshape(shape), queries), like(indices.reshape(shape), queries))

    def within(
        self,
        queries: Any = None,
        radius: float | None = None,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
    ) -> WithinResult:
        """`VectorMemory.within`, on all ranks together; arguments as for `search`.

        `radius` is needed where `queries` are given.
        """

        def request() -> _Request:
            asked = self._of_queries(queries, 1, where, labels, exclude, None)
            if len(asked.shape) != 1:
                raise ValueError(f"queries: expected shape (n, {self.dim}), got {np.shape(queries)}")
            return replace(asked, numbers={"radius": largest_radius(radius)})

        asked = self._asked("within", queries, request)
        shard = self._shard
        found = attempt(lambda: shard.within(asked.vectors, asked.numbers["radius"], asked.chosen))
        limits, distances, indices = self._ranks.share(found, merged_within)
        return WithinResult(like(limits, queries), like(distances, queries), like(indices, queries))

    def log_likelihood(
        self,
        activations: Any = None,
        k: int = 10,
        eps: float = 1e-8,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> Any:
        """`PixelMemory.log_likelihood`, on all ranks together; `activations` as `queries` of `search`."""
        return self._vote(activations, k, eps, where, labels, exclude, recall)

    def predict(
        self,
        activations: Any = None,
        k: int = 10,
        eps: float = 1e-8,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> Any:
        """`PixelMemory.predict`, on all ranks together; `activations` as `queries` of `search`."""
        found = self._vote(activations, k, eps, where, labels, exclude, recall)
        return like(self._classes.copy(), activations)[found.argmax(1)]

    def refresh(self) -> bool:
        """Goes on, on all ranks, to what is in the folder now; whether that is another state than before."""
        before = self._manifest
        self._follow()
        return self._manifest != before

    def explain(self) -> dict[str, Any]:
        """Of this rank: its number, how many there are, vectors here, and `PixelMemory.explain` of these."""
        self._ranks.require_open()
        stored, search = self._shard.stored, self._shard.search
        here = {"rank": self._ranks.number, "ranks": len(self._ranks), "vectors": len(stored)}
        if self._manifest.plan is not None:
            search.ready(lambda: stored)
        return {"device": "cpu"} | search.explain(stored) | here

    def close(self) -> None:
        """Leaves the process groups that the memory made; whatever is asked then raises ValueError."""
        self._ranks.close()

    def __enter__(self) -> Self:
        self._ranks.require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _nearest(
        self, asked: _Request, name: str, chosen: Selection, own: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    ) -> Any:
        """`own` of the nearest of this rank's vectors, or `Failed`."""
        shard, count = self._shard, asked.numbers["k"]
        recalled = self._near(asked, name, chosen)
        if recalled:
            return attempt(lambda: own(shard.nearest(asked.vectors, name, count, chosen, None, *recalled)))
        return self._agreeing(
            lambda agreed: own(shard.nearest(asked.vectors, name, count, chosen, agreed)),
            count,
            len(asked.vectors) * len(self),
        )

    def _agreeing(self, search: Callable[[Agreed | None], Any], k: int, pairs: int) -> Any:
        """What `search` of so many pairs of a query and a vector returns, or `Failed`.

        All ranks agree on how far the k-th nearest may be. Without that every rank looks as far as its own
        vectors need, which is farther: less is dropped. It takes an exchange, which is long beside a short
        search, and clusters to look into first.
        """
        if self._manifest.plan is None or pairs < _PAIRS_WORTH_AGREEING:
            return attempt(lambda: search(None))
        limits: list[Any] = []

        def agreed(near: NDArray[np.float32]) -> NDArray[np.float32]:
            limits.append(attempt(lambda: self._ranks.share(near, lambda parts: _limits(parts, k))))
            if isinstance(limits[0], Failed):
                raise limits[0].error
            found: NDArray[np.float32] = limits[0]
            return found

        found = attempt(lambda: search(agreed))
        if not limits:  # the others wait for it
            self._ranks.share(found, lambda parts: _limits(parts, k))
        elif isinstance(limits[0], Failed):  # all know
            raise limits[0].error
        return found

    def _follow(self) -> None:
        """Opens what is in the folder: the same state on all ranks."""
        self._shard: Shard
        self._manifest: Manifest  # of all
        self._classes: NDArray[np.int64]
        self._counts: NDArray[np.int64]
        for _ in range(_TRIES):
            shard = attempt(lambda: Shard(self._path, self._ranks.number, len(self._ranks)))
            state = shard if isinstance(shard, Failed) else (shard.manifest, *shard.classes())
            manifest, classes, counts = self._ranks.share(state, _agreed, "refresh")
            if manifest is not None:
                self._shard, self._manifest, self._classes, self._counts = shard, manifest, classes, counts
                return
        paths = self._ranks.share(str(self._path), lambda paths: ", ".join(dict.fromkeys(paths)))
        raise OSError(
            f"{paths}: ranks found different memories: other folders, or it is written to all the time"
        )

    def _asked(self, call: str, queries: Any, request: Callable[[], _Request]) -> _Request:
        """What is asked, on all ranks: what this one was given, or what the one that was given it asks."""
        given = None if queries is None else attempt(request)
        digest = given.digest() if isinstance(given, _Request) else given
        source = self._ranks.share(digest, _source, call)
        if source is not None:
            given = self._ranks.share(given, lambda found: found[source])
        assert isinstance(given, _Request)
        return given

    def _of_queries(
        self, queries: Any, k: Any, where: Any, labels: Any, exclude: Any, recall: Any
    ) -> _Request:
        vectors = floating(queries, "queries")
        require_queries(vectors, self.dim)
        shape = vectors.shape[:-1]
        chosen = self._selection(where, labels, exclude).of_queries(shape)
        numbers = {"k": neighbor_count(k, len(self)), "recall": asked_recall(recall)}
        return _Request(vectors.reshape(-1, self.dim), shape, chosen, numbers)

    def _of_activations(
        self, activations: Any, k: Any, eps: Any, where: Any, labels: Any, exclude: Any, recall: Any
    ) -> _Request:
        if self._manifest.kind != PIXELS.name:
            raise ValueError("memory: has vectors alone, without labels that could vote")
        vectors = floating(image_vectors(floating(activations, "activations"), self.dim), "activations")
        shape = vectors.shape[:2]
        chosen = self._selection(where, labels, exclude).of_queries(shape[:1])
        numbers = {
            "k": neighbor_count(k, len(self)),
            "eps": positive_number(eps, "eps"),
            "recall": asked_recall(recall),
        }
        return _Request(vectors.reshape(-1, self.dim), shape, chosen, numbers)

    def _selection(self, where: Any, labels: Any, exclude: Any) -> Selection:
        if not len(self):
            raise ValueError("memory: expected at least one stored vector, got an empty memory")
        pixels = self._manifest.kind == PIXELS.name
        if labels is not None and not pixels:
            raise ValueError("labels: the memory has vectors alone")
        groups = self._manifest.images if pixels else len(self)
        chosen = selection(where, exclude, groups, None if labels is None else integers(labels, "labels"))
        if chosen.where is not None and len(chosen.where) > len(self):
            raise ValueError(
                f"where: expected at most {len(self)} values, one for each row, got {len(chosen.where)}"
            )
        return chosen

    def _near(self, asked: _Request, name: str, chosen: Selection) -> tuple[Any, ...]:
        """The recall and the k-th distances that a search begins with; nothing where it is exact."""
        shard, count, recall = self._shard, min(asked.numbers["k"], len(self)), asked.numbers["recall"]
        if recall is None:
            return ()
        if chosen.narrows:
            left = self._ranks.share(attempt(lambda: shard.left(chosen)), sum)
            if is_few(left, len(self), len(asked.vectors)):
                return ()
        own = attempt(lambda: shard.first_distances(asked.vectors, name, count, chosen))
        return recall, self._ranks.share(own, lambda parts: _limits(parts, count))

    def _vote(
        self, activations: Any, k: Any, eps: Any, where: Any, labels: Any, exclude: Any, recall: Any
    ) -> Any:
        asked = self._asked(
            "log_likelihood",  # or `predict`, which begins with it
            activations,
            lambda: self._of_activations(activations, k, eps, where, labels, exclude, recall),
        )
        images, pixels = asked.shape
        shard, classes, count = self._shard, self._classes, asked.numbers["k"]

        def voters(nearest: tuple[Any, ...]) -> tuple[Any, ...]:
            return (*nearest, shard.class_counts(classes, asked.chosen))

        def voted(parts: list[Any]) -> NDArray[np.float64]:
            distances, indices, labels = merged_nearest([part[:3] for part in parts], count)
            columns = np.where(indices >= 0, np.searchsorted(classes, labels), -1)
            shape, eps = (images, pixels, count), asked.numbers["eps"]
            counts = np.sum([part[3] for part in parts], axis=0)
            return densities(distances.reshape(shape), columns.reshape(shape), counts, eps)

        found = self._nearest(asked, "activations", asked.chosen.of_pixels(pixels), voters)
        return like(self._ranks.share(found, voted), activations)


def _agreed(states: list[tuple[Manifest, NDArray[np.int64], NDArray[np.int64]]]) -> tuple[Any, Any, Any]:
    """The manifest that all have, the classes of all and their counts; None where they differ."""
    if any(manifest != states[0][0] for manifest, *_ in states):
        return None, None, None
    classes = np.unique(np.concatenate([each for _, each, _ in states]))
    counts = np.zeros(len(classes), np.int64)
    for _, own, some in states:
        counts[np.searchsorted(classes, own)] += some
    return states[0][0], classes, counts


def _limits(parts: list[NDArray[np.float32]], k: int) -> NDArray[np.float32]:
    """The k-th smallest of the distances (n, any) of all parts; +inf where there are fewer."""
    distances = np.concatenate(parts, axis=1)
    if distances.shape[1] < k:
        return np.full(len(distances), np.inf, np.float32)
    return np.ascontiguousarray(np.partition(distances, k - 1, axis=1)[:, k - 1])


def _checksum(array: NDArray[Any]) -> tuple[str, tuple[int, ...], int]:
    content = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return array.dtype.str, array.shape, zlib.crc32(content.data)


def _source(digests: list[dict[str, Any] | None]) -> int | None:
    """Which one was given queries; None: all were, the same."""
    given = [number for number, digest in enumerate(digests) if digest is not None]
    if len(given) == len(digests):
        first = digests[0]
        assert first is not None
        others = [name for name in first if any(digest[name] != first[name] for digest in digests if digest)]
        if others:
            raise ValueError(
                f"{', '.join(others)}: expected the same on all ranks, or None for queries on all but one"
            )
        return None
    if len(given) != 1:
        raise ValueError(
            f"queries: expected on one rank or on all {len(digests)}, got on {len(given)} of them"
        )
    return given[0]
