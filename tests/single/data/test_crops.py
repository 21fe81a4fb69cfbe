"""Boxes of random crops, and what is cut by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcsgd.data.crops import crop_draws, cut, random_boxes, resample, to_pixels
from tests.single.api.own_recipes import import_torchvision


def test_boxes_have_the_areas_and_shapes_that_are_drawn() -> None:
    boxes = random_boxes(crop_draws(0, 0, 5000))
    sides, places = boxes[:, :2], boxes[:, 2:]
    assert (sides <= 1).all() and (np.abs(places) + sides <= 1 + 1e-12).all(), "within the image"
    whole = (sides < 1).all(axis=1)
    area, ratio = sides[whole].prod(axis=1), sides[whole, 0] / sides[whole, 1]
    assert area.min() >= 0.08 - 1e-12 and area.max() <= 1
    assert ratio.min() >= 0.75 - 1e-12 and ratio.max() <= 4 / 3 + 1e-12


def test_cutting_by_hand() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    whole, mirrored = [1.0, 1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]
    assert torch.allclose(cut(images, torch.tensor([whole]), 4), images)
    assert torch.allclose(cut(images, torch.tensor([mirrored]), 4), images.flip(3))
    corner = torch.tensor([[0.5, 0.5, -0.5, -0.5]])
    assert torch.allclose(cut(images, corner, 2), images[:, :, :2, :2])


def test_boxes_of_pixels_are_the_nearest_ones_within_the_image() -> None:
    boxes = random_boxes(crop_draws(0, 0, 500))
    rounded = to_pixels(boxes, 20)
    sides, corners = 20 * rounded[:, :2], 10 * (rounded[:, 2:] + 1 - rounded[:, :2])
    assert np.abs(rounded[:, :2] - boxes[:, :2]).max() <= 0.5 / 20 + 1e-12
    for values in (sides, corners):
        assert np.abs(values - np.rint(values)).max() < 1e-9
    assert sides.min() >= 1 and corners.min() > -1e-9 and (sides + corners).max() < 20 + 1e-9


@pytest.mark.parametrize("size", [5, 16, 40])
def test_antialiasing_is_that_of_torchvision(size: int) -> None:
    import_torchvision()
    from torchvision.transforms.v2.functional import resized_crop

    images = torch.rand((8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 255
    boxes = torch.from_numpy(to_pixels(random_boxes(crop_draws(0, 0, 8)), 32))
    boxes[::2, 0] *= -1.0
    ours = resample(images, boxes, size)
    for image, box, found in zip(images, boxes, ours, strict=True):
        width, height = (32 * box[:2].abs()).round().int().tolist()
        left, top = (16 * (box[2:] + 1 - box[:2].abs())).round().int().tolist()
        wanted = resized_crop(image, top, left, height, width, [size, size], antialias=True)
        torch.testing.assert_close(found, wanted.flip(2) if box[0] < 0 else wanted, rtol=0, atol=1e-9)
    in_float32 = resample(images.float(), boxes.float(), size)
    torch.testing.assert_close(in_float32.double(), ours, rtol=0, atol=0.02)
