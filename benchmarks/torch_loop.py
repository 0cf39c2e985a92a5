"""A hand-written PyTorch loop over tensors in memory, with validation."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.gate import Gate
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, unit_arrays


def network(task: Task) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(task.widths[:-2], task.widths[1:-1], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        layers += [nn.Dropout(task.dropout)] if task.dropout else []
    return nn.Sequential(*layers, nn.Linear(task.widths[-2], task.widths[-1]))


def optimizer(task: Task, model: nn.Module) -> torch.optim.Optimizer:
    if task.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.01)
    return torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-7)


def train(task: Task, gate: Gate) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = (torch.from_numpy(array).to(device) for array in unit_arrays(task))
    model = network(task).to(device)
    steps = optimizer(task, model)
    while True:
        gate()
        model.train()
        for index in (torch.randperm(len(labels) - VALIDATION, device=device) + VALIDATION).split(
            BATCH_SIZE
        ):
            steps.zero_grad()
            cross_entropy(model(images[index]), labels[index]).backward()
            steps.step()
        model.eval()
        with torch.inference_mode():
            logits = model(images[:VALIDATION])
            cross_entropy(logits, labels[:VALIDATION]).item()
            (logits.argmax(1) == labels[:VALIDATION]).float().mean().item()
