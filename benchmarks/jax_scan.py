"""JAX: an epoch is one jitted scan over its minibatches, of several trials' steps in a vmap; a
smaller last minibatch is a step of its own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gate import Gate
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, unit_arrays

Tree = Any


def initial(task: Task) -> Tree:
    generator = np.random.default_rng(1)
    return [
        (
            jnp.asarray(
                generator.uniform(-1, 1, (inputs, outputs)) * (6 / (inputs + outputs)) ** 0.5,
                jnp.float32,
            ),
            jnp.zeros(outputs),
        )
        for inputs, outputs in zip(task.widths, task.widths[1:], strict=False)
    ]


def forward(task: Task, parameters: Tree, images: jax.Array, key: jax.Array | None) -> jax.Array:
    values = images
    for weights, bias in parameters[:-1]:
        values = jax.nn.relu(values @ weights + bias)
        if key is not None and task.dropout:
            key, drawn = jax.random.split(key)
            values = (
                values
                * jax.random.bernoulli(drawn, 1 - task.dropout, values.shape)
                / (1 - task.dropout)
            )
    weights, bias = parameters[-1]
    return values @ weights + bias


def mean_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def update(task: Task, state: Tree, gradients: Tree) -> Tree:
    parameters, first, second, count, key, base = state
    if task.optimizer == "sgd":
        moved = jax.tree.map(lambda p, g: p - base * g, parameters, gradients)
        return moved, first, second, count, key, base
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate, root = base / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
    parameters = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-7), parameters, first, second
    )
    return parameters, first, second, count, key, base


def train(task: Task, gate: Gate, trials: int = 1) -> None:
    """Train trials that differ in their learning rates, on the same minibatches."""
    host_images, host_labels = unit_arrays(task)
    images, labels = jnp.asarray(host_images), jnp.asarray(host_labels)

    def step(state: Tree, index: jax.Array) -> tuple[Tree, jax.Array]:
        key, drawn = jax.random.split(state[4])

        def loss(parameters: Tree) -> jax.Array:
            return mean_loss(forward(task, parameters, images[index], drawn), labels[index])

        value, gradients = jax.value_and_grad(loss)(state[0])
        return update(task, (*state[:4], key, state[5]), gradients), value

    if trials > 1:
        step = jax.vmap(step, in_axes=(0, None))
    epoch = jax.jit(lambda state, index: jax.lax.scan(step, state, index), donate_argnums=0)
    last = jax.jit(step, donate_argnums=0)

    @jax.jit  # type: ignore[untyped-decorator]
    def validate(state: Tree) -> Tree:
        return jax.vmap(of_one)(state[0]) if trials > 1 else of_one(state[0])

    def of_one(parameters: Tree) -> tuple[jax.Array, jax.Array]:
        logits = forward(task, parameters, images[:VALIDATION], None)
        return mean_loss(logits, labels[:VALIDATION]), (
            logits.argmax(1) == labels[:VALIDATION]
        ).mean()

    parameters = initial(task)
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    rate = 0.01 if task.optimizer == "sgd" else 0.001
    states = [
        (
            parameters,
            *zeros,
            jnp.zeros(()),
            jax.random.key(1),
            jnp.asarray(rate * (1 + 0.01 * trial)),
        )
        for trial in range(trials)
    ]
    state = (
        jax.tree.map(lambda *of_trials: jnp.stack(of_trials), *states) if trials > 1 else states[0]
    )
    generator = np.random.default_rng(1)
    while True:
        gate()
        order = generator.permutation(len(host_labels) - VALIDATION) + VALIDATION
        complete = len(order) // BATCH_SIZE * BATCH_SIZE
        state, losses = epoch(state, jnp.asarray(order[:complete].reshape(-1, BATCH_SIZE)))
        if complete < len(order):
            state, _ = last(state, jnp.asarray(order[complete:]))
        np.asarray(losses.mean(0))
        [np.asarray(value) for value in validate(state)]
