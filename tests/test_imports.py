"""Who imports whom: no circle between files or between rooms, type-only imports included.

A room is a package folder under pyhue/, or a single file beside them. Imports go downwards only, so that a
room can be read, tested and moved without those above it.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def files(root):
    """Modules of the package in the folder `root` by name; a package's name stands for its `__init__.py`."""
    found = {}
    for path in [*root.rglob("*.py"), *root.rglob("*.pyi")]:
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root):
    """For each module of the package the modules of it that it imports, anywhere in the file."""
    modules = files(root)

    def target(name):
        while name not in modules:  # `from package.module import name` names the module's content
            name = name.rpartition(".")[0]
        return name

    graph = {}
    for name, path in modules.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                module = ".".join(part for part in (above, node.module) if part)
                found |= {f"{module}.{alias.name}" for alias in node.names}
        own = {other for other in found if other.split(".")[0] == root.name}
        graph[name] = {target(other) for other in own} - {name}
    return graph


def rooms(graph):
    """The same for rooms."""

    def room(name):
        return ".".join(name.split(".")[:2])

    found = {room(name): set() for name in graph}
    for name, others in graph.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def circle(graph):
    """Names that lead from one back to itself; empty where nothing does."""
    done = set()

    def search(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := search(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := search(name, []))), [])


GRAPH = imports(ROOT / "pyhue")


def test_no_circle_between_files():
    found = circle(GRAPH)
    assert not found


def test_no_circle_between_rooms():
    found = circle(rooms(GRAPH))
    assert not found


def table_of_rooms():
    """Rooms by the row of the table in docs/design.md that names them."""
    text = (ROOT / "docs" / "design.md").read_text().split("\n## Rooms\n")[1].split("\n## ")[0]
    places = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = [(row, re.findall(r"`(\w+)(?:/|\.py)`", place)) for row, place in enumerate(places)]
    return {f"pyhue.{name}": row for row, names in named for name in names}


def test_every_room_is_in_the_table():
    assert set(table_of_rooms()) == set(rooms(GRAPH)) - {"pyhue", "pyhue._core"}


def test_rooms_import_from_their_own_row_and_those_below():
    rows = table_of_rooms()
    pairs = [(room, other) for room, others in rooms(GRAPH).items() for other in others]
    upwards = [pair for pair in pairs if rows.keys() >= set(pair) and rows[pair[0]] > rows[pair[1]]]
    assert not upwards


def test_torch_is_imported_at_once_only_where_its_users_are():
    """Elsewhere, when it is needed; so that retrieval runs without it."""

    def at_once(statements):
        for node in statements:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module
            elif isinstance(node, ast.Try):
                yield from at_once(node.body)

    importing = {
        name.split(".")[1]
        for name, path in files(ROOT / "pyhue").items()
        if any(other.split(".")[0] == "torch" for other in at_once(ast.parse(path.read_text()).body))
    }
    assert importing == {"nn", "backbones", "training", "_demo"}


def test_only_the_command_imports_the_whole_package():
    assert {name.split(".")[1] for name, others in GRAPH.items() if "pyhue" in others} == {"_cli"}


CIRCLES = {
    "plain": ("from thing.b import f", "import thing.a", "files"),
    "types only": ("from thing.b import f", "if TYPE_CHECKING:\n    from thing.a import A", "files"),
    "when it runs": ("from thing.b import f", "def f():\n    from thing.a import A", "files"),
    "module from its package": ("from thing import b", "from thing import a", "files"),
    "relative": ("from .b import f", "from . import a", "files"),
    "by the package": ("import thing", "", "files"),
    "rooms": ("from thing.room.x import f", "", "rooms"),
}


@pytest.mark.parametrize("case", CIRCLES)
def test_a_circle_is_found(tmp_path, case):
    a, b, kind = CIRCLES[case]
    sources = {
        "__init__": "from thing.a import A",
        "a": f"import os\n{a}\nclass A: pass",
        "b": f"from typing import TYPE_CHECKING\n{b}",
        "room/__init__": "",
        "room/x": "",
        "room/y": "from thing.a import A",
    }
    for name, source in sources.items():
        path = tmp_path / "thing" / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)
    graph = imports(tmp_path / "thing")
    assert circle(rooms(graph))
    assert bool(circle(graph)) == (kind == "files")
    (tmp_path / "thing" / "a.py").write_text("import os\nclass A: pass")
    assert not circle(rooms(imports(tmp_path / "thing")))


def test_an_import_that_goes_upwards_is_found():
    graph = {name: set(others) for name, others in GRAPH.items()}
    graph["pyhue._files.tables"].add("pyhue.training.run")
    assert circle(graph)
    assert circle(rooms(graph))
