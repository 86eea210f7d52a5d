"""Distillation: a small network learns to see in random crops of photos what a large one, its teacher, sees there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from similar_images.images import Pixels
from similar_images.weights import import_keras, seeded

WARM_UP = 200
WEIGHT_DECAY = 0.05
CHECKPOINT_STEPS = 100
WINDOW = 5  # places; half as much to calculate as 7 by 7
WINDOWS_UNTIL = 0.7  # of all steps


class Progress(NamedTuple):
    """How far training has got.

    Attributes:
        step: how many batches were learnt from.
        cosine: mean cosine of the mapped means over places to the teacher's, since the last progress.
        error: mean squared error at the places since then, 1 for a network that knows nothing.
    """

    step: int
    cosine: float
    error: float


def distil(
    network: Any,
    pixels: Pixels,
    targets: Sequence[NDArray[np.float16]],
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Iterator[Progress]:
    """Train a network until linear maps tell a teacher's features from its own, and yield the progress every 100 steps.

    The loss is a sum: of the teacher's last layer, one minus the cosine of the means over all places, and the squared
    error of the similarities within the batch; of that one and, so that the network comes to see as its teacher does
    and not only to the same end, of earlier ones, the squared error at each place. The linear maps are forgotten. In
    most steps the network sees only a window of each crop.

    Args:
        network: from (b, h, w, 3) of -1 to 1 to feature maps, one for each target with its number of places; modified.
        pixels: (c, side, side, 3) uint8, the crops; not modified.
        targets: (c, places, places, d) each, what the teacher gives for them: first its last layer, then earlier ones;
            not modified.
        folder: where a checkpoint is written with each progress, and read from, if there is one, to go on from.
        steps: how many batches to learn from, altogether.
        batch_size: crops a batch.
        learning_rate: the highest, after a warm-up; it falls to 0 along a cosine.
        seed: of the order of crops, of windows and of mirroring.

    Source: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015); Romero et al.: FitNets (2015),
        for the earlier layers; Park et al.: Relational Knowledge Distillation (2019); Beyer et al.: Knowledge
        distillation: A good teacher is patient and consistent (2022).
    """
    import tensorflow as tf

    student = _with_maps(network, targets)
    optimizer = _muon(learning_rate, steps)
    optimizer.build(student.trainable_variables)
    checkpoint = tf.train.Checkpoint(student=student, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    learn = _learn(student, optimizer, [float(np.square(each[:1024], dtype=np.float32).mean()) for each in targets])
    errors = []
    for step in range(int(optimizer.iterations), steps):
        batch = _batch(pixels, targets, batch_size, step, steps, np.random.default_rng((seed, step)))
        errors.append(learn(*batch))
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps:
            manager.save(step + 1)
            distance, error = np.mean(errors, axis=0)
            errors = []
            yield Progress(step + 1, 1 - float(distance), float(error))


def _with_maps(network: Any, targets: Sequence[NDArray[np.float16]]) -> Any:
    """Return the network with linear maps from its features to the teacher's."""
    keras = import_keras()
    with seeded():
        mapped = [
            keras.layers.Conv2D(target.shape[-1], 1)(features)
            for features, target in zip(network.outputs, targets, strict=True)
        ]
    return keras.Model(network.inputs[0], mapped)


def _batch(
    pixels: Pixels,
    targets: Sequence[NDArray[np.float16]],
    batch_size: int,
    step: int,
    steps: int,
    random: np.random.Generator,
) -> tuple[Pixels, list[NDArray[np.float32]]]:
    """Return a random batch, all crops through the same window, half of them mirrored."""
    rows = random.choice(len(pixels), batch_size, replace=batch_size > len(pixels))
    places = targets[0].shape[1]
    window = min(WINDOW, places) if step < WINDOWS_UNTIL * steps else places
    top, left = random.integers(0, places - window + 1, 2)
    mirrored = random.random(batch_size) < 0.5

    def seen(maps: NDArray[Any]) -> NDArray[Any]:
        scale = maps.shape[1] // places
        down, across = slice(top * scale, (top + window) * scale), slice(left * scale, (left + window) * scale)
        batch = maps[rows, down, across]
        batch[mirrored] = batch[mirrored, :, ::-1]
        return batch

    return seen(pixels), [seen(target).astype(np.float32) for target in targets]


def _learn(student: Any, optimizer: Any, variances: list[float]) -> Any:
    """Return the function that learns from a batch and returns the cosine distance and the error at places."""
    import tensorflow as tf

    def learn(pixels: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            given = student(tf.cast(pixels, tf.float32) / 127.5 - 1, training=True)
            errors = [
                tf.reduce_mean(tf.square(tf.cast(one, tf.float32) - other)) / variance
                for one, other, variance in zip(given, wanted, variances, strict=True)
            ]
            a, b = (tf.math.l2_normalize(tf.reduce_mean(each[0], (1, 2)), -1) for each in (given, wanted))
            distance = 1 - tf.reduce_mean(tf.reduce_sum(a * b, -1))
            alike, alike_wanted = (tf.matmul(each, each, transpose_b=True) for each in (a, b))
            similarities = tf.reduce_mean(tf.square(alike - alike_wanted))
            loss = distance + similarities + tf.add_n(errors)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, student.trainable_variables), student.trainable_variables, strict=True)
        )
        return distance, errors[0]

    return tf.function(learn, reduce_retracing=True)


def _muon(learning_rate: float, steps: int) -> Any:
    """Return Keras' Muon, taught to take a convolution's kernel for the matrix that it is.

    In its first 100 steps it gets twice as far as AdamW. Keras' own leaves kernels of four dimensions to AdamW.

    Source: Jordan et al.: Muon: An optimizer for hidden layers in neural networks (2024).
    """
    keras = import_keras()

    class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[name-defined]
        def _should_use_adamw(self, variable: Any) -> bool:
            return len(variable.shape) < 4 or variable.shape[0] == 1

        def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
            flat = keras.ops.reshape(x, (-1, x.shape[-1]))
            return keras.ops.reshape(super().zeropower_via_newtonschulz5(flat, steps), x.shape)

        def lr_adjust(self, x: Any) -> Any:
            return keras.ops.reshape(super().lr_adjust(keras.ops.reshape(x, (-1, x.shape[-1]))), x.shape)

    warm_up = min(WARM_UP, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, max(1, steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )
    return ConvolutionMuon(schedule, weight_decay=WEIGHT_DECAY, adam_weight_decay=WEIGHT_DECAY)
