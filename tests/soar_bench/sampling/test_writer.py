"""Images are saved while the next are made: whole or not at all, and errors are raised."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from soar_bench.cache.images import ImageStore, Writer
from soar_bench.sampling import generate as module
from soar_bench.sampling.generate import generate
from soar_bench.suites.types import PlannedSample, Prompt

SAMPLES = [PlannedSample(Prompt(f"p{i}", f"a star {i}"), 0) for i in range(6)]


def image(sample):
    return np.full((8, 8, 3), int(sample.prompt.id[1:]), np.uint8)


class Maker:
    """A sampler that makes images by hand."""

    embeds = False

    def __init__(self):
        self.events = []

    def sample(self, samples, seed):
        self.events.append(("made", len(samples)))
        return np.stack([image(sample) for sample in samples])

    def try_out(self, sample, seed):
        self.events.append(("tried", 1))


def test_the_next_images_are_made_while_the_last_are_saved(tmp_path, monkeypatch):
    """A save that waits for the next images would never end on the thread that makes them."""
    store, second = ImageStore(tmp_path), threading.Event()
    add = ImageStore.add

    def slow(self, sample, pixels):
        assert second.wait(20)
        add(self, sample, pixels)

    class Telling(Maker):
        def sample(self, samples, seed):
            if self.events:
                second.set()
            return super().sample(samples, seed)

    monkeypatch.setattr(ImageStore, "add", slow)
    made = generate(Telling(), SAMPLES, store, 0, batch_size=3)
    assert made.images == 6
    assert all(np.array_equal(store.read(sample), image(sample)) for sample in SAMPLES)


def test_a_failed_save_ends_the_work_and_leaves_whole_files_alone(tmp_path, monkeypatch):
    store, add = ImageStore(tmp_path), ImageStore.add

    def full(self, sample, pixels):
        if sample is SAMPLES[1]:
            raise OSError(28, "No space left on device")
        add(self, sample, pixels)

    monkeypatch.setattr(ImageStore, "add", full)
    maker = Maker()
    with pytest.raises(OSError, match="No space left"):
        generate(maker, SAMPLES, store, 0, batch_size=2)
    assert len(maker.events) == 2  # one batch ahead of the failure, and no more
    assert store.missing(SAMPLES[:2]) == [SAMPLES[1]]
    assert all(file.suffix == ".png" and file.name[0] != "." for file in tmp_path.iterdir())


def test_images_are_told_of_when_they_are_on_disk(tmp_path):
    store, told = ImageStore(tmp_path), []

    def observe(done, total):
        told.append((done, total))
        assert len(SAMPLES) - len(store.missing(SAMPLES)) >= done

    generate(Maker(), SAMPLES, store, 0, batch_size=4, observe=observe)
    assert told[-1] == (6, 6)
    assert (4, 6) in told


def test_another_error_waits_for_what_is_being_saved(tmp_path, monkeypatch):
    store, add = ImageStore(tmp_path), ImageStore.add

    def slow(self, sample, pixels):
        time.sleep(0.1)
        add(self, sample, pixels)

    monkeypatch.setattr(ImageStore, "add", slow)
    with pytest.raises(KeyboardInterrupt), Writer(store) as writer:
        writer.begin([(sample, image(sample)) for sample in SAMPLES])
        raise KeyboardInterrupt
    assert not store.missing(SAMPLES)


def test_the_batch_that_fits_is_found_without_making_an_image(tmp_path, monkeypatch):
    class Known:
        known = True

        def __init__(self, device):
            pass

        def start(self):
            pass

        def batch(self):
            return 4

    monkeypatch.setattr(module, "Peak", Known)
    maker = Maker()
    assert generate(maker, SAMPLES, ImageStore(tmp_path), 0, batch_size=None).batch_size == 4
    assert maker.events == [("tried", 1), ("tried", 1), ("made", 4), ("made", 2)]
