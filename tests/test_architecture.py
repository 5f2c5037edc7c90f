"""The three rules of the house, read from the imports; and a few habits that keep it standing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
LONGEST = 300  # lines

# What a technique may know of nasx: its own declaration, training, costs; nothing of the search.
FOR_SPACES = {
    "nasx.space", "nasx.shape", "nasx.recipe", "nasx.relax", "nasx.assets", "nasx.errors",
    "nasx.files", "nasx.tasks.base", "nasx.tasks.mixture", "nasx.tasks.degrade", "nasx.cost.ops",
    "nasx.recalibrate",
}  # fmt: skip
PICKLES = {"nasx/contract.py"}  # reads back what it has just written


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (HOME / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(HOME).as_posix()


def imports(file: Path) -> set[str]:
    """Every module imported anywhere in a file, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def of(package: str, names: set[str]) -> set[str]:
    return {n for n in names if n == package or n.startswith(f"{package}.")}


def words(file: Path) -> set[str]:
    """Identifiers and string constants of a file, docstrings apart."""
    tree = ast.parse(file.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and type(node.value) is str and id(node) not in docs:
            found |= set(node.value.replace(".", " ").replace("/", " ").split())
    return found


def techniques() -> set[str]:
    from nasx import registry

    stems = {p.stem for p in (HOME / "search_spaces").glob("[!_]*.py")}
    classes = {cls.__name__ for cls in registry.spaces().values()}
    return stems | set(registry.spaces()) | classes


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Calls as ('module.function' or 'function', node)."""
    tree = ast.parse(file.read_text())
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("file", sources("nasx"), ids=name_of)
def test_nasx_knows_no_technique(file):
    assert not {n for n in imports(file) if n.startswith("search_spaces.")}
    assert not words(file) & techniques()


@pytest.mark.parametrize("file", sources("search_spaces"), ids=name_of)
def test_a_technique_knows_nothing_of_the_search(file):
    known = imports(file)
    for package in ("optuna", "ray", "plotly", "studies", "dashboards"):
        assert not of(package, known)
    modules = {n for n in of("nasx", known) if n != "nasx"}
    allowed = {n for n in modules if n in FOR_SPACES or n.rpartition(".")[0] in FOR_SPACES}
    packages = {"nasx.tasks", "nasx.cost"}  # of `from nasx.cost import ops`
    assert modules - allowed - packages == set()


@pytest.mark.parametrize("file", sources("dashboards"), ids=name_of)
def test_a_figure_only_reads_the_record(file):
    known = imports(file)
    for package in ("torch", "ray", "optuna", "search_spaces", "studies"):
        assert not of(package, known)


def test_figures_load_without_torch_ray_or_optuna():
    code = (
        "import sys; from nasx import registry; registry.figures();"
        "print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "file",
    sources("nasx", "search_spaces", "dashboards", "benchmarks"),
    ids=name_of,
)
def test_a_file_is_read_in_one_sitting(file):
    assert len(file.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("file", sources("nasx", "search_spaces", "dashboards"), ids=name_of)
def test_nothing_that_executes_data(file):
    for called, node in calls(file):
        assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
        if called in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
            assert name_of(file) in PICKLES
        if called == "torch.load":
            asked = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert asked.get("weights_only") == "True"


@pytest.mark.parametrize("file", sources("nasx"), ids=name_of)
def test_only_the_edge_prints(file):
    if file.name not in ("cli.py", "terminal.py"):
        assert "print" not in {called for called, _ in calls(file)}


def test_the_wheel_holds_every_package():
    import tomllib

    listed = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    roots = ("nasx", "search_spaces", "studies", "dashboards")
    there = {
        p.parent.relative_to(HOME).as_posix().replace("/", ".")
        for root in roots
        for p in (HOME / root).rglob("__init__.py")
    }
    assert there == set(listed)


def test_every_dependency_is_pinned_in_the_tested_set():
    import re
    import tomllib

    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (HOME / "constraints.txt").read_text().splitlines()
    pins = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    for requirement in wanted:
        name = re.split(r"[<>=\[;! ]", requirement)[0].lower().replace("_", "-")
        assert name in pins, requirement
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if "://" in line or "--" in line or "+" in line]
