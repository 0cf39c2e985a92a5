"""The kernel of Adam: interpreted, it does what the formula does; and GPUs take it."""

import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import torch
from trialstack.engine.adam_triton import update
from trialstack.engine.adam_update import formula

for trials in (1, 3):
    for dtype, bound in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        for decoupled in (False, True):
            torch.manual_seed(trials)
            own = torch.rand(4, trials, 1, 2500, dtype=dtype)
            numbers = list(torch.rand(6, trials, 1, 1, dtype=dtype))
            expected = own.clone()
            update(*own, numbers, decoupled)
            formula(*expected, numbers, decoupled)
            weights, _, *moments = own
            for value, other in zip((weights, *moments), expected[[0, 2, 3]]):
                torch.testing.assert_close(value, other, rtol=bound, atol=bound)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trialstack.engine.adam_triton import NUMBERS, _update

for kind in ("fp32", "fp64"):
    for decoupled in (False, True):
        tensors = ("weights", "gradient", "exp_avg", "exp_avg_sq", *NUMBERS)
        signature = {name: "*" + kind for name in tensors} | {"size": "i32"}
        constants = {"DECOUPLED": decoupled, "DOUBLE": kind == "fp64", "BLOCK": 1024}
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(_update, signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        rounded = {line.split()[0] for line in made.asm["ptx"].splitlines() if line.strip()}
        width = kind[2:]
        assert {f"div.rn.f{width}", f"sqrt.rn.f{width}"} <= rounded
"""


@pytest.mark.parametrize(
    ("code", "interpreted"), [(INTERPRETED, "1"), (COMPILED, "0")], ids=["interpreted", "compiled"]
)
def test_the_kernel(code: str, interpreted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)  # which is read when it is imported
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
