"""The kernels for GPUs, as far as a machine without one can tell: they compute the right thing and they compile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lib.storage.project import ROOT

triton = pytest.importorskip("triton", reason="no Triton on this machine")


def test_kernels_agree_with_torchs_operations_in_tritons_interpreter() -> None:
    tests = ROOT / "tests" / "helpers" / "triton_interpreted.py"
    command = [sys.executable, "-m", "pytest", str(tests)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("backend", "architecture", "warp"), [("cuda", 80, 32), ("cuda", 90, 32), ("hip", "gfx942", 64)]
)
def test_kernels_compile_for(backend: str, architecture: object, warp: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lib.kernels import triton_step

    target = GPUTarget(backend, architecture, warp)
    where = {"table": "*i64", "counts": "*i32"}
    sizes = {"columns": 32, "block": triton_step.BLOCK}
    names = ("lr", "weight_decay", "eps", "sign", "beta1", "beta2", "one_minus_beta1", "one_minus_beta2")
    numbers = dict.fromkeys(
        (*names, "log2_beta1", "log2_beta2"), "fp32"
    )  # none is a constant: schedules change rates and betas at every step
    for kernel, arguments, fixed in (  # private: no public function compiles a kernel for a GPU that is not there
        (triton_step._count, where, sizes),
        (triton_step._update, where | {"totals": "*i64"} | numbers, sizes),
        (triton_step._scaled_update, {"table": "*i64", "decay": "fp32", "max_step": "fp32"}, sizes),
    ):
        assert [p.name for p in kernel.params if p.is_constexpr] == list(fixed)
        signature = arguments | dict.fromkeys(fixed, "constexpr")
        assert list(signature) == kernel.arg_names
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in fixed.items()})
        built = triton.compile(source, target=target)
        assert built.asm["cubin" if backend == "cuda" else "hsaco"]
