"""Compiles ext/*.pyx into recserv._* (everything else stands in pyproject.toml), and writes ext/columns.pxd before.

Directives are set here once. RECSERV_DEBUG=1 turns bounds checks, initialisation checks and line tracing back on: the
suite passes in both builds. RECSERV_SANITIZE=address,undefined adds the sanitizers. Nothing is tuned to the machine
that compiles (no -march=native), and floating point keeps its NaNs (no -ffast-math).
"""

import os
import runpy
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("RECSERV_DEBUG") == "1"
SANITIZE = os.environ.get("RECSERV_SANITIZE", "")

directives = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "linetrace": DEBUG,
    "embedsignature": True,
}
# No one reads errno after a square root; without it, the compiler takes several roots at once.
# Lines in a report need no more than -g1, and more takes longer to write than the checked code.
compile_args = ["-O1", "-g1"] if DEBUG or SANITIZE else ["-O3", "-fno-math-errno"]
link_args = []
if SANITIZE:
    compile_args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    link_args += [f"-fsanitize={SANITIZE}"]

# Only where it changed: what is newer than the kernels is a reason to compile them again.
columns, columns_file = runpy.run_path("recserv/ranking_features.py")["columns_pxd"](), Path("ext/columns.pxd")
if not columns_file.exists() or columns_file.read_text() != columns:
    columns_file.write_text(columns)

# All that a kernel may be made of, but for what was written above: a source distribution holds what is named here.
parts = sorted(str(path) for path in Path("ext").glob("*.*") if path.suffix in (".pxd", ".h") and path != columns_file)
extensions = [
    Extension(
        f"recserv._{path.stem}",
        [str(path)],
        include_dirs=[np.get_include(), "ext"],
        depends=[str(path), *parts],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")] + ([("CYTHON_TRACE", "1")] if DEBUG else []),
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for path in sorted(Path("ext").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(extensions, compiler_directives=directives, include_path=["ext"], force=DEBUG),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
