"""Not a rival: the rate of a large matrix product, which is as fast as this machine computes."""

import torch

from benchmarks.gate import Gate
from benchmarks.task import PRODUCT_SIZE, Task


def train(task: Task, gate: Gate) -> None:
    """Ten float32 products for an epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left, right = (torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device=device) for _ in range(2))
    while True:
        gate()
        for _ in range(10):
            product = left @ right
        product[0, 0].item()
