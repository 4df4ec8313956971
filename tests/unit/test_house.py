"""The house: no circle of imports between modules or rooms, no file of two stories, no folder that is a heap."""

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "benchmarks", "crayon", "functions", "infra", "layers", "local", "model_build", "runtime", "web")
SOURCE = (".py", ".js", ".css", ".html")
MOST_LINES, MOST_FILES = 300, 16

Graph = Mapping[str, set[str]]


def source_files() -> list[Path]:
    """Every file of source that git knows, tests apart, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *ROOMS],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    paths = [Path(line) for line in listed.stdout.decode().splitlines()]
    return [path for path in paths if path.suffix in SOURCE and (ROOT / path).exists()]


def modules() -> dict[str, Path]:
    """Dotted name -> file. What all rooms share lies below layers/shared and is imported without that."""
    return {
        ".".join(path.with_suffix("").parts).removeprefix("layers.shared.").removesuffix(".__init__"): path
        for path in source_files()
        if path.suffix == ".py"
    }


def imports(known: Mapping[str, Path]) -> Graph:
    """Module -> the modules it imports, those within functions too.

    A package may import its own modules where it opens one of them by name: registries do (a store, an engine), and who
    implements what a package declares imports it back.
    """
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for imported in _imported(ast.parse((ROOT / path).read_text()), known):
            if imported != name and not imported.startswith(f"{name}."):
                graph[name].add(imported)
    return graph


def _imported(tree: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                imported = below if below in known else node.module
                if imported in known:
                    yield imported


def siblings(graph: Graph) -> dict[str, dict[str, set[str]]]:
    """Room -> the graph of what lies directly in it: an arrow is an import from within one to within another."""
    rooms: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for importer, targets in graph.items():
        for imported in targets:
            left, right = importer.split("."), imported.split(".")
            common = next((i for i, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
            if common is not None:
                rooms[".".join(left[:common])][left[common]].add(right[common])
    return rooms


def circle(graph: Graph) -> list[str]:
    """One circle of the graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_noticed() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert siblings({"x.a.m": {"x.b.m"}, "x.b.n": {"x.a.n"}}) == {"x": {"a": {"b"}, "b": {"a"}}}


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(imports(modules())) == []


def test_no_two_rooms_import_each_other() -> None:
    found = {room: circle(graph) for room, graph in siblings(imports(modules())).items()}
    assert {room: names for room, names in found.items() if names} == {}


@pytest.mark.parametrize("path", source_files(), ids=str)
def test_a_file_tells_one_story(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= MOST_LINES


def test_no_folder_is_a_heap() -> None:
    folders: dict[Path, int] = defaultdict(int)
    for path in source_files():
        folders[path.parent] += 1
    assert {str(folder): files for folder, files in folders.items() if files > MOST_FILES} == {}
