"""Exports bundles and runs the Deploy application on them, all in this one process; for test_monai_deploy.py.

    python deploy_runs.py RUNS.json

RUNS.json is a list of ``{"bundle", "model", "input", "output"}``; every run adds ``"error"``, empty where it went well.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/deploy"))

import app
import export


def run(case: dict[str, str]) -> str:
    try:
        if not Path(case["model"]).is_file():
            export.main([case["bundle"], case["model"]])
        status = app.main(["--model", case["model"], "--input", case["input"], "--output", case["output"]])
        return "" if status == 0 else f"exit status {status}"
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    cases = json.loads(file.read_text())
    for case in cases:
        case["error"] = run(case)
        file.write_text(json.dumps(cases, indent=4))
