"""Buckets by hand, crops by hand, and an order that resumes where it stopped."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.order import BucketOrder, rows_of_step, variants_of
from training.data.views import View, bucket_of, bucket_sizes, cut, view
from training.types import Images


def test_buckets_by_hand():
    # 512^2 = 262144; by width: 320 -> 819 -> 768 (2.4 : 1); 384 -> 682 -> 640; 448 -> 585 -> 576;
    # 512 -> 512; 256 -> 1024 is 4 : 1 and left out.
    assert bucket_sizes(512, 64) == [
        (320, 768),
        (384, 640),
        (448, 576),
        (512, 512),
        (576, 448),
        (640, 384),
        (768, 320),
    ]
    assert bucket_sizes(64, 64) == [(64, 64)]


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (64, 8), (512, 16)])
def test_buckets_keep_their_promises(resolution, step):
    sizes = bucket_sizes(resolution, step)
    assert (resolution, resolution) in sizes
    assert {(h, w) for w, h in sizes} == set(sizes)
    for w, h in sizes:
        assert w % step == h % step == 0
        assert w * h <= resolution**2
        assert max(w, h) <= 2.5 * min(w, h)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((100, 100), (512, 512)),
        ((1920, 1080), (640, 384)),  # 1.78: 1.67 is nearer than 2.4
        ((1080, 1920), (384, 640)),
        ((9000, 100), (768, 320)),
        ((4, 3), (576, 448)),  # 1.33: 1.29 is nearer than 1
    ],
)
def test_an_image_takes_the_bucket_nearest_in_aspect(size, bucket):
    sizes = bucket_sizes(512, 64)
    assert sizes[bucket_of(*size, sizes)] == bucket


def order_of(counts):
    return BucketOrder(np.repeat(np.arange(len(counts)), counts))


def test_every_batch_is_of_one_bucket_and_every_epoch_sees_every_sample():
    order = order_of([7, 4, 1])
    # Batches of 3: 3 + 2 + 1 = 6, which hold 18 samples: 2 + 2 + 2 of them a second time.
    assert order.steps(3) == 6
    assert order.repeated(3) == 6
    for epoch in range(3):
        seen: Counter[int] = Counter()
        for step in range(6 * epoch, 6 * epoch + 6):
            rows, epochs = order.samples_of_step(3, step, seed=1)
            assert len({int(order._buckets[row]) for row in rows}) == 1
            assert epochs.tolist() == [epoch] * 3
            seen.update(rows.tolist())
        assert set(seen) == set(range(12))
        assert seen[11] == 3, "a bucket of one sample fills its batch with it"
        assert sum(seen[row] - 1 for row in range(7)) == 2
        assert max(seen[row] for row in range(11)) == 2


def test_bucket_order_depends_on_seed_and_step_alone():
    whole = [order_of([7, 4]).samples_of_step(2, step, 5)[0].tolist() for step in range(14)]
    resumed = order_of([7, 4])
    assert [resumed.samples_of_step(2, s, 5)[0].tolist() for s in range(9, 14)] == whole[9:]
    assert [order_of([7, 4]).samples_of_step(2, s, 6)[0].tolist() for s in range(14)] != whole
    steps = order_of([7, 4]).steps(2)
    assert whole[:steps] != whole[steps : 2 * steps]


def test_the_order_of_squares_is_numpys_permutation_of_seed_and_epoch():
    """The committed records stand on this order: it may not move."""
    expected = [
        *np.random.default_rng((3, 0)).permutation(5),
        *np.random.default_rng((3, 1)).permutation(5),
    ]
    got = [row for step in range(5) for row in rows_of_step(5, 2, step, 3).tolist()]
    assert got == expected


def test_every_variant_of_a_sample_is_seen_once_in_as_many_epochs():
    samples = torch.arange(50)
    seen = [variants_of(samples, torch.full((50,), e), 50, 4, seed=2) for e in range(8)]
    stacked = torch.stack(seen)
    assert (stacked[:4].sort(dim=0).values == torch.arange(4)[:, None]).all()
    assert torch.equal(stacked[:4], stacked[4:])
    assert len(set(seen[0].tolist())) == 4, "samples start at different variants"
    other = variants_of(samples, torch.zeros(50, dtype=torch.int64), 50, 4, seed=3)
    assert not torch.equal(seen[0], other)


def test_crops_keep_the_part_they_name():
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :8], image[:, 8:] = 10, 200
    assert (cut(image, (8, 8), View(0, 0.5)) == 10).all()
    assert (cut(image, (8, 8), View(1, 0.5)) == 200).all()
    flipped = cut(image, (16, 8), View(flipped=True))
    assert (
        flipped == np.asarray(Image.fromarray(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    ).all()
    assert cut(image, (4, 12)).shape == (12, 4, 3)


def test_variants_are_of_the_content_and_alternate_flips():
    images = Images(crop="random", flip=True, crops=4)
    views = [view("abc", variant, images) for variant in range(4)]
    assert views == [view("abc", variant, images) for variant in range(4)]
    assert [v.flipped for v in views] == [False, True, False, True]
    assert len({v.x for v in views}) == 4
    assert view("abd", 0, images) != views[0]
    xs = [view(str(i), 0, images).x for i in range(2000)]
    assert abs(np.mean(xs) - 0.5) < 0.03
    assert view("abc", 0, Images()) == View(0.5, 0.5, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": True}, "even number"),
        ({"crops": 2}, r"set images\.crop to random"),
        ({"flip": True, "crops": 4}, r"set images\.crop to random"),
    ],
)
def test_variants_that_would_be_alike_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Images(**settings)
