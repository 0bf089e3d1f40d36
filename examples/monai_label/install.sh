#!/bin/sh
# An environment with MONAI Label and this repository's package:  install.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
test -x "$1/bin/python" || "${PYTHON:-python3}" -m venv "$1"
python=$1/bin/python
install() {
    "$python" -m pip --disable-pip-version-check install -q -c "$here/constraints.txt" "$@"
}
# What builds from source is built beside this torch: sam2's own build environment would fetch the newest one with CUDA.
install torch "setuptools>=77" wheel ninja pybind11
SAM2_BUILD_CUDA=0 install --no-build-isolation monailabel
install --no-build-isolation "$here/../.."
site=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
cp "$here/torchvision_on_cpu.py" "$site/"
echo "import torchvision_on_cpu" > "$site/torchvision_on_cpu.pth"
