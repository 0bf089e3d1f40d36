"""Every command and option of every page names what exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from doc_commands import FLARE_OPTIONS, LABEL_OPTIONS, TORCHRUN_OPTIONS, faults_of
from doc_pages import ROOT, Block, blocks, bundle_of, commands, inline_code, links, name, pages, shell_commands

PAGES = pytest.mark.parametrize("page", pages(), ids=name)


def written_files(page: Path) -> set[str]:
    """Files that a page has the reader write: the targets of its redirections."""
    text = "".join(block.text for block in blocks(page))
    return set(re.findall(r">\s*([\w./-]+)", text))


@cache
def known_options(bundle: Path | None) -> str:
    """Text in which an option's name must occur: the configs of a bundle (of all of them), the tools, the package."""
    configs = sorted((bundle or ROOT / "bundles").rglob("configs/*.json"))
    code = [*ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("medsynth_ext/**/*.py")]
    return "".join(path.read_text(encoding="utf-8") for path in [*configs, *code])


@PAGES
def test_every_command_names_what_exists(page: Path) -> None:
    written = written_files(page)
    faults = [
        f"{command.place}: {fault}\n    {command}"
        for command in shell_commands(page)
        for fault in faults_of(command, written)
    ]
    assert not faults, "\n".join(faults)


@PAGES
def test_every_option_in_the_text_exists(page: Path) -> None:
    known = known_options(bundle_of(page))
    ours = [code for code in inline_code(page) if not code.startswith("pip ")]
    named = {option for code in ours for option in re.findall(r"(?:^| )--([a-z][\w-]*)", code)}
    named -= TORCHRUN_OPTIONS | FLARE_OPTIONS | LABEL_OPTIONS
    lost = [key for key in sorted(named) if f'"{key}"' not in known and f'"--{key}"' not in known]
    assert not lost, f"{name(page)} names options that nothing takes: {lost}"


@PAGES
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not (page.parent / link).exists()]
    assert not broken, f"{name(page)} links to {broken}"


def test_the_index_lists_every_page() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs/README.md")}
    lost = [name(page) for page in pages() if bundle_of(page) is None and page.resolve() not in listed]
    assert set(lost) <= {"README.md", "docs/README.md"}


def test_every_workflow_of_the_readme_of_a_bundle_is_among_the_commands() -> None:
    """The extraction itself: each bundle's page has the commands that check_bundles finds as plain text."""
    for page in pages():
        if bundle_of(page) is not None:
            text = " ".join(str(command) for command in shell_commands(page))
            assert all(f"configs/{config}.json" in text for config in ("inference", "train", "evaluate"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("python -m monai.bundle run --config_file configs/lost.json", "no such config"),
        ("python -m monai.bundle run --config_file configs/inference.json --bundle_root .. ", "is no bundle"),
        ("python -m monai.bundle run --config_file configs/inference.json --thresh 1", "inference.json has no thresh"),
        ("python tools/lost.py", "there is no tools/lost.py"),
        ("python tools/check_bundles.py --quick", "check_bundles.py has no --quick"),
        ("python -m medsynth_ext.lost", "there is no module"),
        ("python -m medsynth_ext.claims BUNDLE --size 3", "has no --size"),
        ("make everything", "no target everything"),
        ('make test ARGS="tests/lost.py -x"', "there is no tests/lost.py"),
        ("pip install -c lost.txt torch", "there is no lost.txt"),
        ("pip install '.[lost]'", "no extra lost"),
        ("cp -r bundles/lost .", "there is no bundles/lost"),
        ("for N in 1 2; do frobnicate $N; done", "'frobnicate' is no program"),
        ("torchrun --processes 2 -m medsynth_ext.claims", "torchrun has no --processes"),
    ],
)
def test_a_wrong_command_is_found(text: str, fault: str) -> None:
    page = ROOT / "bundles/fbpaug_ct_segmentation/docs/README.md"
    faults = [f for command in commands(Block(page, 1, "", text, None)) for f in faults_of(command, set())]
    assert any(fault in f for f in faults), faults


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = (
        "B=bundles/fbpaug_ct_segmentation  # the bundle\n"
        "cat > notes.txt <<END\nmake nothing\nEND\n"
        'X=1 python tools/demo.py \\\n    --output_dir "$B/a b" && make test'
    )
    found = [command.words for command in commands(Block(ROOT / "README.md", 1, "", text, None))]
    assert found == [
        ("cat", ">", "notes.txt"),
        ("python", "tools/demo.py", "--output_dir", "bundles/fbpaug_ct_segmentation/a b"),
        ("make", "test"),
    ]
