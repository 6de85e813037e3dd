"""Which room may import which, and where torch, matplotlib and kconfiglib may stand.

An import for types only or inside a function counts as any other, and the sentence says which it is: it is one more
room that the reader of a file has to know. Only for the question what starting a command loads do these two not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# Lowest first. A room imports itself and what lies below it; rooms of one floor do not know each other.
FLOORS = (
    ("lib.storage", "lib.kernels", "lib.memory"),
    ("lib.config", "lib.pruning"),
    ("lib.data", "lib.monitor", "lib.optimizers"),
    ("lib.training", "lib.results"),
    ("lib.memory_estimate", "lib.plots"),
    ("lib.runner", "lib.report"),
    ("models",),
    ("scripts",),
)
SHIPPED = ("lib", "lib.kernels", "lib.memory", "lib.optimizers", "lib.pruning")  # what `pip install .` installs
WITHOUT_TORCH = ("lib.storage", "lib.config", "lib.monitor", "lib.results", "lib.runner", "lib.data.sources")
NAME_OF_A_SCRIPT = rb"\bscripts[/.][a-z]|[\"']scripts[\"']"
SAYS_WHAT_TO_TYPE = "lib.results.recipe"  # the one module that names a script, in a command for its reader to type
HOMES = {"matplotlib": "lib.plots", "kconfiglib": "lib.config", "menuconfig": "lib.config"}  # a package's only room


class Import(NamedTuple):
    source: str  # a module, as lib.pruning.movement
    target: str  # a module of the project or of a package: lib.kernels.cpu, torch.nn
    kind: str  # "", " (for types only)" or " (in a function)"


def read_modules(root: Path) -> dict[str, Path]:
    """Name and file of each module of the library, the scripts and the models."""
    folders = [root / "lib", root / "scripts", *(path.parent for path in root.glob("*/train.py"))]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {module_name(path.relative_to(root)): path for path in files}


def module_name(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def read_imports(modules: dict[str, Path]) -> Iterator[Import]:
    for module, path in modules.items():
        package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
        for node, kind in import_statements(ast.parse(path.read_bytes())):
            targets = {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                above = package[: len(package) + 1 - node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                targets = {name if (name := f"{base}.{target}") in modules else base for target in targets}
            yield from (Import(module, target, kind) for target in targets)


def import_statements(node: ast.AST, kind: str = "") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, kind
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        kind = kind or " (in a function)"
    guarded = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
    for child in ast.iter_child_nodes(node):
        yield from import_statements(child, " (for types only)" if child in guarded else kind)


def room_of(module: str) -> str:
    """The room that a module lies in: lib.pruning, lib (its __init__.py alone), scripts, or models for all of these."""
    first, *rest = module.split(".")
    if first == "lib":
        return f"{first}.{rest[0]}" if rest else first
    return "scripts" if first == "scripts" else "models"


def within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def breaches(root: Path) -> set[str]:
    """Each breach of the rules of this file below a root, as a sentence."""
    modules = read_modules(root)
    imports = list(read_imports(modules))
    return set().union(
        *(breaches_of(found, modules) for found in imports),
        loads_of_torch(imports, modules),
        circles(imports),
        (f"{module} lies in no room" for module in modules if floor_of(room_of(module)) == len(FLOORS)),
        (
            f"{name} names a path of scripts/"
            for path in (root / "lib").rglob("*")
            if path.is_file() and (name := module_name(path.relative_to(root))) != SAYS_WHAT_TO_TYPE
            if path.suffix != ".pyc" and re.search(NAME_OF_A_SCRIPT, path.read_bytes())
        ),
    )


def breaches_of(found: Import, modules: dict[str, Path]) -> Iterator[str]:
    sentence = f"{found.source} imports {found.target}"
    package = found.target.split(".")[0]
    if home := HOMES.get(package):
        if not within(found.source, [home]):
            yield f"{sentence}, which stands in {home} alone{found.kind}"
    elif package == "torch" and within(found.source, WITHOUT_TORCH):
        yield f"{sentence}, which its room does without{found.kind}"
    elif within(found.target, {name.split(".")[0] for name in modules}):
        source, target = room_of(found.source), room_of(found.target)
        if source in SHIPPED and target not in SHIPPED:
            yield f"{sentence}, which pip does not ship{found.kind}"
        if floor_of(target) > floor_of(source):
            yield f"{sentence}, which lies above it{found.kind}"
        elif floor_of(target) == floor_of(source) and source != target and source != "lib":
            yield f"{sentence}, which lies beside it{found.kind}"


def floor_of(room: str) -> int:
    if room == "lib":  # its __init__.py hands on what pip ships
        room = "lib.optimizers"
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def loads_of_torch(imports: list[Import], modules: dict[str, Path]) -> Iterator[str]:
    """Modules that have to do without torch, but load it through what they import at their top."""
    graph: dict[str, set[str]] = {}
    for module in modules:  # importing a module runs the __init__.py of its packages first
        graph[module] = {".".join(module.split(".")[:depth]) for depth in range(1, module.count(".") + 1)}
    for found in imports:
        if not found.kind:
            graph[found.source].add(found.target)
    heavy = {found.source for found in imports if not found.kind and within(found.target, ["torch", "torchvision"])}
    for module in modules:
        if within(module, WITHOUT_TORCH):
            for target in sorted(graph[module]):  # what leads there through a room without torch is named there
                if not within(target, WITHOUT_TORCH) and ({target} | reached(graph, target)) & heavy:
                    yield f"{module} loads torch, by way of {target}"


def circles(imports: list[Import]) -> Iterator[str]:
    graph: dict[str, set[str]] = {}
    for found in imports:
        graph.setdefault(found.source, set()).add(found.target)
    for found in imports:
        if found.source in reached(graph, found.target):
            yield f"{found.source} imports {found.target}, which leads back to it{found.kind}"


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, ahead = {start}, [start]
    while ahead:
        new = graph.get(ahead.pop(), set()) - seen
        seen |= new
        ahead += new
    return seen
