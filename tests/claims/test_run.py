"""Running a study: what is written, what is run again, and what happens when it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_study import ToyStudy

from medsynth_ext.claims import run_study

HERE = Path(__file__).parent


def run(study: ToyStudy, folder: Path, **options: Any) -> dict[str, Any]:
    scale = options.setdefault("scale", "small")
    run_study(study, bundle="toy", out=folder / "docs", work=folder / "work", **options)
    return json.loads((folder / "docs" / "claims.json").read_text())["runs"][scale]


def lines(study: ToyStudy) -> list[str]:
    return Path(study.log).read_text().splitlines()


@pytest.mark.parametrize("workers", [1, 2])
def test_report_holds_arms_seeds_figures_versions_machine_duration_and_claims(tmp_path: Path, workers: int) -> None:
    study = ToyStudy(str(tmp_path / "log"))
    record = run(study, tmp_path, workers=workers)
    assert sorted(lines(study)) == ["bad 0", "bad 1", "good 0", "good 1"]
    assert record["arms"]["good"]["figures"] == {"0": {"score": 20.0}, "1": {"score": 21.0}}
    assert record["arms"]["bad"]["seeds"] == [0, 1]
    assert {"torch", "monai", "python", "medsynth_ext"} <= set(record["versions"])
    assert {"cpu", "threads", "gpu", "cores"} <= set(record["machine"])
    assert record["duration_s"]["this_run"] >= 0
    first, second = record["claims"]
    assert first["held"]
    assert first["measured"][0]["measured"] == 10.0
    assert not first["reason"]
    assert first["wanted"] == "good minus bad >= 5"
    assert second["held"]
    assert second["not_measured"] == ["its weight: there is no scale"]
    assert (tmp_path / "docs" / "claims_small.png").read_bytes().startswith(b"\x89PNG")


def test_finished_arms_are_not_run_again_and_changed_ones_are(tmp_path: Path) -> None:
    run(ToyStudy(str(tmp_path / "log")), tmp_path)
    run(ToyStudy(str(tmp_path / "log")), tmp_path)
    assert len(lines(ToyStudy(str(tmp_path / "log")))) == 4
    changed = ToyStudy(str(tmp_path / "log"), {"good": 2.0, "bad": 1.9})
    record = run(changed, tmp_path)
    assert sorted(lines(changed)[4:]) == ["bad 0", "bad 1"]
    assert not record["claims"][0]["held"]
    assert "good minus bad is 1, wanted >= 5" in record["claims"][0]["reason"]
    run(changed, tmp_path, resume=False)
    assert len(lines(changed)) == 10


def test_a_known_reason_is_added_to_a_claim_that_does_not_hold(tmp_path: Path) -> None:
    record = run(ToyStudy(str(tmp_path / "log"), {"good": 1.0, "bad": 1.0}), tmp_path, reasons={"1": "equal by design"})
    assert record["claims"][0]["reason"].endswith("equal by design")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_gives_the_same_figures(tmp_path: Path, workers: int) -> None:
    straight = run(ToyStudy(str(tmp_path / "log0")), tmp_path / "straight")
    log, work = tmp_path / "log", tmp_path / "killed"
    script = (
        "from pathlib import Path; from medsynth_ext.claims import run_study; from toy_study import ToyStudy\n"
        "if __name__ == '__main__':\n"
        f"    run_study(ToyStudy({str(log)!r}, die_in='bad 1'), bundle='toy', scale='small', workers={workers},\n"
        f"              out=Path({str(work)!r}) / 'docs', work=Path({str(work)!r}) / 'work')\n"
    )
    file = tmp_path / "script.py"
    file.write_text(script)
    environment = {"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    stopped = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, check=False)
    if workers == 1:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert "bad seed 1 died" in stopped.stderr
    assert not (work / "docs" / "claims.json").exists()
    names = (path.parent.name for path in work.rglob("figures.json"))  # of arms that were done: name-seed-fingerprint
    done = {" ".join(name.split("-")[:2]) for name in names}
    # The last arm dies; of two workers the other may still be at one of the first three.
    assert done <= {"good 0", "good 1", "bad 0"}
    assert len(done) >= 4 - workers
    before = log.read_text().splitlines()
    record = run(ToyStudy(str(log)), work)
    after = log.read_text().splitlines()[len(before) :]
    assert "bad 1" in after
    assert not done & set(after)
    assert record["arms"]["bad"]["figures"] == straight["arms"]["bad"]["figures"]
    assert record["claims"] == straight["claims"]


def test_an_error_in_an_arm_stops_the_run_and_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the toy broke"):
        run(ToyStudy(str(tmp_path / "log"), fail_in="good 0"), tmp_path)
    assert not (tmp_path / "docs").exists()


def test_single_claims_run_their_arms_only_and_leave_the_report_alone(tmp_path: Path) -> None:
    study = ToyStudy(str(tmp_path / "log"))
    outcomes = run_study(study, bundle="toy", scale="small", out=tmp_path / "docs", work=tmp_path / "work", only=["2"])
    assert [outcome.claim.id for outcome in outcomes] == ["2"]
    assert sorted(lines(study)) == ["bad 0", "bad 1"]
    assert not (tmp_path / "docs").exists()
    assert (tmp_path / "work" / "small" / "only" / "claims.json").is_file()
    with pytest.raises(ValueError, match="there is no claim 9; there are 1, 2"):
        run_study(study, bundle="toy", scale="small", out=tmp_path, work=tmp_path, only="9")


def test_records_of_other_scales_are_kept(tmp_path: Path) -> None:
    study = ToyStudy(str(tmp_path / "log"))
    run(study, tmp_path, scale="small")
    run(study, tmp_path, scale="medium")
    runs = json.loads((tmp_path / "docs" / "claims.json").read_text())["runs"]
    assert set(runs) == {"small", "medium"}


def test_a_foreign_claims_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "claims.json").write_text("[]")
    with pytest.raises(ValueError, match="is no report of claims"):
        run(ToyStudy(str(tmp_path / "log")), tmp_path)
    assert (tmp_path / "docs" / "claims.json").read_text() == "[]"


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    study = ToyStudy(str(tmp_path / "log"))
    run(study, tmp_path)
    file = next((tmp_path / "work").rglob("figures.json"))
    file.write_text("{")
    with pytest.raises(ValueError, match=r"figures.json is damaged"):
        run(study, tmp_path)
