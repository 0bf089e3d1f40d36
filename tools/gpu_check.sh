#!/usr/bin/env bash
# Everything a machine with a GPU is wanted for, in one command and without a network.
#
#     tools/gpu_check.sh [OUT] [--minutes M] [--labels-dir DIR] [--only STAGES] [--deadline SECONDS] [--device cpu]
#
# Builds the operators for the GPU at hand, runs the GPU tests, the benchmarks, the generator's profile and a training of
# M minutes from the shipped weights; OUT/report.md holds the table. It may be stopped at any time. See gpu_check.py.
set -u
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)" || exit 1
exec "${PYTHON:-python3}" "$here/gpu_check.py" "$@"
