"""Builds the operators: C++ for the CPU (once per instruction set) and, where nvcc is found, CUDA.

    pip install .                        isolated build
    pip install --no-build-isolation .   with the torch that is installed

Environment: MEDSYNTH_CUDA=0|1 (without or with CUDA, whatever is found), MEDSYNTH_CUDA_ARCHS="80;90;100",
MEDSYNTH_DEBUG=1 (address and undefined-behaviour sanitizers), MEDSYNTH_EMULATION=1 (for tests: the CUDA kernels,
compiled for the CPU by csrc/emulation, take the CPU's tensors), MAX_JOBS.

torch's own CUDAExtension refuses to work beside a CPU build of torch, so this file writes a ninja file and calls nvcc
itself. The .cu files see no torch header at all, which is why a clean build takes two minutes and not ten.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
CSRC = HERE / "csrc"
VERSION = "0.1.0"
TORCH_TARGET = "2.11"  # the oldest torch that a built library may meet
TORCH_TARGET_HEX = "0x020b000000000000"
LIBRARY = "libmedsynth_ops.so"
# What the doors include of torch: read once, into a precompiled header.
TORCH_HEADERS = [
    "torch/csrc/stable/accelerator.h",
    "torch/csrc/stable/library.h",
    "torch/csrc/stable/ops.h",
    "torch/csrc/stable/tensor.h",
    "torch/headeronly/core/ScalarType.h",
    "torch/headeronly/util/Exception.h",
]
ISA_FLAGS = {
    "cpu_base": [],
    "cpu_avx2": ["-mavx2", "-mfma", "-mbmi2"],
    "cpu_avx512": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mfma",
        "-mbmi2",
        "-mprefer-vector-width=512",
    ],
}


def find_nvcc() -> str | None:
    """The nvcc to use, or None when CUDA is left out; says once which it is."""
    wanted = os.environ.get("MEDSYNTH_CUDA")
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which(f"{home}/bin/nvcc") if home else shutil.which("nvcc")
    if wanted == "0":
        return None
    if nvcc is None:
        if wanted == "1":
            raise SystemExit("MEDSYNTH_CUDA=1 asks for CUDA kernels, but nvcc was not found on PATH or in CUDA_HOME")
        print("medsynth_ext: nvcc not found, building without CUDA kernels", file=sys.stderr)
    return nvcc


def nvcc_version(nvcc: str) -> str:
    """The release that nvcc reports, for example 13.0."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return text.split("release ")[1].split(",")[0]


def cudart_static(nvcc: str) -> Path:
    """The static CUDA runtime that belongs to nvcc."""
    dry = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, check=False).stderr
    tops = [line.split("TOP=")[1] for line in dry.splitlines() if "TOP=" in line]
    roots = [Path(tops[0])] if tops else []
    roots += [Path(os.path.realpath(nvcc)).parent.parent, Path("/usr/local/cuda")]
    for root in roots:
        for folder in ("lib64", "lib", "targets/x86_64-linux/lib"):
            if (root / folder / "libcudart_static.a").exists():
                return root / folder / "libcudart_static.a"
    raise SystemExit(f"libcudart_static.a was not found near {nvcc}; set MEDSYNTH_CUDA=0 to build without CUDA")


class NinjaFile:
    """Collects compile and link edges and writes them as a build.ninja."""

    def __init__(self) -> None:
        self.lines = ["ninja_required_version = 1.5", ""]

    def rule(self, name: str, command: str, *, depfile: bool) -> None:
        """Add a rule; with `depfile` the compiler's list of included headers is tracked."""
        self.lines += [f"rule {name}", f"  command = {command}", f"  description = {name} $out"]
        self.lines += ["  depfile = $out.d", "  deps = gcc"] if depfile else []
        self.lines.append("")

    def edge(self, rule: str, out: Path, sources: list[Path], *, after: Path | None = None, **variables: str) -> Path:
        """Add one build step, `after` another one's output where that is given, and return its output."""

        def quote(p: Path) -> str:
            return str(p).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

        order = f" | {quote(after)}" if after else ""
        self.lines.append(f"build {quote(out)}: {rule} {' '.join(quote(s) for s in sources)}{order}")
        self.lines += [f"  {key} = {value}" for key, value in variables.items()] + [""]
        return out


class BuildOperators(build_ext):
    """Builds the operator library and the small Python module with ninja."""

    def run(self) -> None:
        """Build both and put them beside the package's Python files."""
        module = Path(self.get_ext_fullpath("medsynth_ext._C")).resolve()
        module.parent.mkdir(parents=True, exist_ok=True)
        # In-tree builds share one folder, so that an editable install and a later build_ext --inplace compile once.
        folder = HERE / "build" / "in-tree" if self.inplace else Path(self.build_temp)
        work = (folder / ("sanitize" if os.environ.get("MEDSYNTH_DEBUG") == "1" else "ops")).resolve()
        work.mkdir(parents=True, exist_ok=True)
        ninja = write_ninja(work, module)
        (work / "build.ninja").write_text("\n".join(ninja.lines) + "\n")
        jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
        subprocess.run([*ninja_command(), "-C", str(work), *jobs], check=True)

    def get_outputs(self) -> list[str]:
        """The files that belong to the installation."""
        module = Path(self.get_ext_fullpath("medsynth_ext._C"))
        return [str(module), str(module.parent / LIBRARY)]


def needed(name: str) -> ModuleType:
    """A package that the build needs, which a build without isolation may lack."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise SystemExit(
            f"error: {name} is needed to build medsynth_ext: install torch {TORCH_TARGET} or newer, ninja and pybind11 "
            "first, or leave out --no-build-isolation"
        ) from None


def find_torch() -> Path:
    """The folder of the installed torch, which must not be older than the library may meet."""
    torch = needed("torch")
    if [int(part) for part in torch.__version__.split(".")[:2]] < [int(part) for part in TORCH_TARGET.split(".")]:
        raise SystemExit(
            f"error: torch {TORCH_TARGET} or newer is needed to build medsynth_ext, found {torch.__version__}"
        )
    return Path(torch.__file__).parent


def ninja_command() -> list[str]:
    """How to call ninja: the program, or the Python package of that name."""
    if shutil.which("ninja"):
        return ["ninja"]
    ninja = needed("ninja")
    return [str(Path(ninja.BIN_DIR) / "ninja")]


def precompiled_torch_header(file: NinjaFile, work: Path, *, flags: str) -> Path:
    """Add the step that precompiles torch's headers; the text beside its output serves compilers that cannot use it."""
    header = work / "precompiled" / "medsynth_torch.h"
    text = "".join(f"#include <{name}>\n" for name in TORCH_HEADERS)
    if not header.exists() or header.read_text() != text:
        header.parent.mkdir(exist_ok=True)
        header.write_text(text)
    return file.edge("cxx", header.with_name(header.name + ".gch"), [header], flags=f"{flags} -x c++-header")


def cuda_objects(file: NinjaFile, work: Path, nvcc: str, archs: list[str], defines: list[str]) -> list[Path]:
    """Add the steps that compile CUDA, longest file first.

    The oldest of `archs` is the virtual architecture of all: one pass of the compiler's long half gives the PTX, which
    is kept for devices not named and assembled to machine code for each that is. No kernel asks which it runs on.
    """
    oldest = min(archs, key=lambda arch: int(arch.rstrip("af")))
    targets = ",".join([f"sm_{arch}" for arch in archs] + [f"compute_{oldest}"])
    codes = [f"'-gencode=arch=compute_{oldest},code=[{targets}]'"]
    flags = ["-std=c++20", "-O3", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Wno-deprecated-gpu-targets"]
    file.rule("nvcc", f"{nvcc} -MMD -MF $out.d {' '.join(flags + codes + defines)} -c $in -o $out", depfile=True)
    sources = sorted(CSRC.glob("*/*.cu"), key=lambda path: path.stat().st_size, reverse=True)
    return [file.edge("nvcc", work / f"{'_'.join(s.relative_to(CSRC).with_suffix('').parts)}.o", [s]) for s in sources]


def emulated_objects(file: NinjaFile, work: Path) -> list[Path]:
    """Add the steps that compile the CUDA kernels for the CPU, with the emulation's header in place of CUDA's."""
    kernels = f"-x c++ -I{CSRC / 'emulation'} -include cuda_runtime.h -D__CUDACC__ -DMEDSYNTH_ISA_NAMESPACE=emulated"
    kernels += " -Wno-deprecated -Wno-sign-compare -Wno-unknown-pragmas"  # nvcc's own are another set
    emulator = CSRC / "emulation" / "emulator.cpp"
    objects = [file.edge("cxx", work / "emulator.o", [emulator], flags=f"-I{emulator.parent}")]
    for source in sorted(CSRC.glob("*/*.cu")):
        stem = "_".join(source.relative_to(CSRC).with_suffix("").parts)
        objects.append(file.edge("cxx", work / f"{stem}.o", [source], flags=kernels))
    return objects


def write_ninja(work: Path, module: Path) -> NinjaFile:
    """The whole build: objects in `work`, the library and the module beside `module`."""
    torch_root, pybind11 = find_torch(), needed("pybind11")
    debug = os.environ.get("MEDSYNTH_DEBUG") == "1"
    emulation = os.environ.get("MEDSYNTH_EMULATION") == "1"
    nvcc = None if emulation else find_nvcc()
    defines = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET_HEX}", f'-DMEDSYNTH_VERSION=\\"{VERSION}\\"']
    defines.append(f'-DMEDSYNTH_TORCH_TARGET=\\"{TORCH_TARGET}\\"')
    multi_isa = platform.machine() in ("x86_64", "AMD64")
    defines += ["-DMEDSYNTH_MULTI_ISA"] if multi_isa else []
    optimise = [
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
    ]
    optimise = [*optimise, "-DMEDSYNTH_SANITIZE"] if debug else ["-O3"]
    cxx = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", *optimise]
    include = [f"-isystem {torch_root}/include", f"-isystem {torch_root}/include/torch/csrc/api/include"]
    archs = os.environ.get("MEDSYNTH_CUDA_ARCHS", "80;90;100").split(";")
    if emulation:
        defines += ["-DMEDSYNTH_WITH_CUDA", "-DMEDSYNTH_EMULATION"]
    if nvcc:
        defines += ["-DMEDSYNTH_WITH_CUDA", f'-DMEDSYNTH_CUDA_ARCHS=\\"{",".join("sm_" + a for a in archs)},ptx\\"']
        defines.append(f'-DMEDSYNTH_NVCC_VERSION=\\"{nvcc_version(nvcc)}\\"')

    file = NinjaFile()
    compiler = os.environ.get("CXX", "g++")
    file.rule("cxx", f"{compiler} -MMD -MF $out.d {' '.join(cxx + defines)} $flags -c $in -o $out", depfile=True)
    link = f"{compiler} -shared {' '.join(o for o in optimise if o.startswith('-fsan'))} -o $out $in $libs"
    file.rule("link", link, depfile=False)

    objects = []
    libs = [f"-L{torch_root}/lib", "-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed", "-ltorch_cpu", "-lc10", "-ldl"]
    if nvcc:  # first: these take longest, and ninja goes by the order here
        objects += cuda_objects(file, work, nvcc, archs, defines)
        libs += [str(cudart_static(nvcc)), "-lrt", "-lpthread"]
    if emulation:
        objects += emulated_objects(file, work)
    python = f"-isystem {pybind11.get_include()} -isystem {sysconfig.get_path('include')}"
    glue = file.edge("cxx", work / "python_module.o", [CSRC / "python_module.cpp"], flags=python)
    torch_header = precompiled_torch_header(file, work, flags=" ".join(include))
    doors = {
        "after": torch_header,
        "flags": f"{' '.join(include)} -I{torch_header.parent} -include {torch_header.stem}",
    }
    for source in sorted(CSRC.glob("*/*.cpp")):
        if source.parent.name == "emulation":
            continue
        stem = "_".join(source.relative_to(CSRC).with_suffix("").parts)
        if not source.stem.endswith("_cpu"):
            objects.append(file.edge("cxx", work / f"{stem}.o", [source], **doors))
            continue
        for isa in ISA_FLAGS if multi_isa else ["cpu_base"]:
            flags = " ".join([f"-DMEDSYNTH_ISA_NAMESPACE={isa}", "-fopenmp-simd", "-fno-math-errno", *ISA_FLAGS[isa]])
            objects.append(file.edge("cxx", work / f"{stem}_{isa}.o", [source], flags=flags))
    objects.append(file.edge("cxx", work / "registration.o", [CSRC / "registration.cpp"], **doors))
    file.edge("link", module.parent / LIBRARY, objects, libs=" ".join(libs))

    file.edge("link", module, [glue], libs="-ldl")
    return file


setup(
    version=VERSION,
    ext_modules=[Extension("medsynth_ext._C", sources=[])],
    cmdclass={"build_ext": BuildOperators},
)
