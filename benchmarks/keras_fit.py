"""Keras with TensorFlow, as in the articles: `model.fit` on arrays, with validation data."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras

from benchmarks.gate import Gate
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, unit_arrays


def train(task: Task, gate: Gate, steps_per_execution: int = 1) -> None:
    images, labels = unit_arrays(task)
    layers = [keras.Input((784,))]
    for width in task.hidden:
        layers.append(keras.layers.Dense(width, activation="relu"))
        layers += [keras.layers.Dropout(task.dropout)] if task.dropout else []
    model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.SGD(0.01)
        if task.optimizer == "sgd"
        else keras.optimizers.Adam(),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    turns = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: gate(), on_train_end=lambda logs: gate()
    )
    model.fit(
        images[VALIDATION:],
        labels[VALIDATION:],
        batch_size=BATCH_SIZE,
        epochs=task.epochs,
        validation_data=(images[:VALIDATION], labels[:VALIDATION]),
        callbacks=[turns],
    )
