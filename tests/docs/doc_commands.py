"""Whether a command of a page could run: the files, configuration keys, options and targets that it names exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from doc_pages import ROOT, Command
from monai.bundle import ConfigParser

# Programs of other projects, of which a page can only name the right files.
FOREIGN = {
    *(".", "cat", "cmake", "cp", "ctest", "curl", "dcmdump", "echo", "export", "find", "git", "head", "kill", "ls"),
    *("mkdir", "monailabel", "mv", "ninja", "ray", "rm", "sh", "sleep", "source", "ulimit", "unset", "wait", "wc"),
}
RUN_OPTIONS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}
TORCHRUN_OPTIONS = {"nproc_per_node", "nproc-per-node", "standalone", "nnodes", "node_rank", "rdzv_endpoint"}
FLARE_OPTIONS = {"export", "export-dir"}  # FLARE takes them from the command line itself
LABEL_OPTIONS = {"conf"}  # of the command monailabel
OURS = tuple(f"{folder}/" for folder in ("bundles", "docs", "tools", "tests", "csrc", "benchmarks", "examples"))


def options_of(words: tuple[str, ...]) -> dict[str, list[str]]:
    """The ``--options`` of a command with the words that follow each."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        match = re.match(r"--([A-Za-z_][\w#:.-]*)(=(.*))?$", word, re.S)
        if match:
            values = found.setdefault(match[1], [])
            values += [match[3]] if match[2] else []
        else:
            values.append(word)
    return found


@cache
def load_config(files: tuple[Path, ...]) -> ConfigParser:
    """Configuration files merged as ``monai.bundle run`` merges them."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    return parser


def config_files(values: list[str], folder: Path) -> tuple[Path, ...]:
    """The files that ``--config_file`` names."""
    (value,) = values
    names = ast.literal_eval(value) if value.startswith("[") else [value]
    return tuple(folder / file for file in names)


def check_bundle_run(command: Command, options: dict[str, list[str]]) -> list[str]:
    """Faults of a ``monai.bundle run``: config files, bundle folder, overridden keys."""
    if "config_file" not in options:
        return ["monai.bundle run needs --config_file"]
    files = config_files(options["config_file"], command.folder)
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        return [f"no such config: {', '.join(missing)}"]
    (root,) = options.get("bundle_root", ["."])
    faults = [] if (command.folder / root / "configs").is_dir() else [f"--bundle_root {root} is no bundle"]
    parser = load_config(files)
    for key in options.keys() - RUN_OPTIONS:
        if key not in parser:
            faults.append(f"{' + '.join(file.name for file in files)} has no {key}")
    return faults


def check_options(options: dict[str, list[str]], sources: list[Path]) -> list[str]:
    """Options that none of the sources of a program mentions."""
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    return [f"{sources[0].name} has no --{key}" for key in options if f'"--{key}"' not in text]


def check_module(command: Command, module: str, words: tuple[str, ...]) -> list[str]:
    """Faults of ``python -m MODULE``."""
    options = options_of(words)
    if module == "monai.bundle":
        return check_bundle_run(command, options) if words[:1] == ("run",) else []
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if module.partition(".")[0] not in ("medsynth_ext", "benchmarks"):
        return [] if spec or module in ("pip", "venv") else [f"there is no module {module}"]
    if spec is None or spec.origin is None:
        return [f"there is no module {module}"]
    source = Path(spec.origin)
    return check_options(options, sorted(source.parent.glob("*.py")) if source.stem == "__init__" else [source])


def check_python(command: Command) -> list[str]:
    """Faults of a ``python`` command."""
    words = command.words[1:]
    if words[:1] == ("-m",):
        return check_module(command, words[1], words[2:])
    if words[:1] == ("-c",):
        compile(words[1], command.place, "exec")
        return []
    script = command.folder / words[0] if (command.folder / words[0]).is_file() else ROOT / words[0]
    if not script.is_file():
        return [f"there is no {words[0]}"]
    return check_options(options_of(words[1:]), [script])


def check_make(command: Command) -> list[str]:
    """Faults of a ``make`` command: its target, and the tests that ARGS names."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    faults = []
    for word in command.words[1:]:
        if "=" not in word:
            faults += [] if word in targets else [f"the Makefile has no target {word}"]
        elif word.startswith("ARGS="):
            named = [part.partition("::")[0] for part in word[5:].split() if part.startswith("tests/")]
            faults += [f"there is no {path}" for path in named if not (ROOT / path).exists()]
    return faults


def check_pip(command: Command, written: set[str]) -> list[str]:
    """Faults of a ``pip install``: the files of constraints and requirements, the extras of this package."""
    faults = []
    words = command.words
    for option, file in pairwise(words):
        if option in ("-c", "-r") and file not in written and not (command.folder / file).is_file():
            faults.append(f"there is no {file}")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = [extra for word in words for extra in re.findall(r"^\.\[(\w+)\]$", word)]
    return faults + [f"pyproject.toml has no extra {extra}" for extra in extras if f"\n{extra} = [" not in project]


def check_foreign(command: Command) -> list[str]:
    """Faults of another project's program: files of the repository that it is given."""
    named = [word for word in command.words[1:] if word.startswith(OURS) and word == word.rstrip("*")]
    return [f"there is no {word}" for word in named if not (ROOT / word).exists()]


def faults_of(command: Command, written: set[str]) -> list[str]:
    """What is wrong with a command; ``written`` are files that its page has the reader write before."""
    program = command.words[0]
    checks: dict[str, Any] = {"python": check_python, "python3": check_python, "make": check_make}
    if program == "torchrun":
        split = command.words.index("-m")
        foreign = options_of(command.words[1:split]).keys() - TORCHRUN_OPTIONS
        faults = [f"torchrun has no --{key}" for key in foreign]
        return faults + check_module(command, command.words[split + 1], command.words[split + 2 :])
    if program == "pip":
        return check_pip(command, written)
    if program in checks:
        return checks[program](command)
    if program in FOREIGN:
        return check_foreign(command)
    return [f"{program!r} is no program that the tests know: a block that is no shell needs a language, as ```text"]
