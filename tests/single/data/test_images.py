"""An image file is read as is said, or refused by one message."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.images import BadImageError, decode, printable, read_all, read_image
from hpcsgd.errors import UsageError
from tests.single.data.image_files import make_folders, pixels, save


def read(path: Path, size: int = 8) -> tuple[np.ndarray, list[str]]:
    """An image, and what is said of it."""
    changes: Counter[str] = Counter()
    return read_image(path, size, changes), sorted(changes)


def test_an_image_is_its_middle_at_the_size_asked_for(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "images", train=2, test=2)
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255
    Image.fromarray(wide).save(root / "train" / "dark" / "wide.png")
    data = load_dataset(DataConfig(name="image_folder", dir=str(root), image_size=20))
    assert data.train.inputs.shape == (5, 3, 20, 20)
    assert (data.train.inputs[-1] == 255).all()
    assert data.train.targets.tolist() == [0, 0, 1, 1, 1]


def test_a_long_image_is_cut_before_it_is_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.png"
    Image.fromarray(pixels(6001, 1)).save(file)
    whole, _ = read(file, 9)
    monkeypatch.setattr("hpcsgd.data.images.LONGEST", 10_000)
    assert (read(file, 9)[0] == whole).all()
    monkeypatch.undo()
    sides = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, size, *more: sides.append(size) or resize(image, size, *more)
    )
    assert read(file, 300)[0].shape == (300, 300, 3)
    assert sides == [(300, 300)], "not 300 x 1,800,300"


def test_what_has_a_rule_is_converted_and_said(tmp_path: Path) -> None:
    colours = pixels(channels=4)
    opaque = colours.copy()
    opaque[..., 3] = 255
    frames = [Image.fromarray(colours[..., :3]), Image.fromarray(255 - colours[..., :3])]
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = "transparency, which is dropped"
    made = {
        "rgba.png": (Image.fromarray(colours), {}, [transparent]),
        "opaque.png": (Image.fromarray(opaque), {}, []),
        "rgb.png": (frames[0], {}, []),
        "key.png": (frames[0], {"transparency": tuple(colours[0, 0, :3].tolist())}, [transparent]),
        "frames.png": (
            frames[0],
            {"save_all": True, "append_images": frames[1:]},
            ["several frames, of which the first is taken"],
        ),
        "turned.png": (frames[0], {"exif": turned}, ["an EXIF orientation, which is not applied"]),
        "cmyk.tif": (frames[0].convert("CMYK"), {}, ["CMYK colours, converted by Pillow"]),
    }
    for name, (image, options, said) in made.items():
        image.save(tmp_path / name, **options)
        read_pixels, told = read(tmp_path / name)
        assert told == said, name
        assert (read_pixels == colours[..., :3]).all(), name
    for mode in ("L", "1", "P"):
        frames[0].convert(mode).save(tmp_path / "mode.png")
        assert read(tmp_path / "mode.png")[1] == [], mode


def test_sixteen_bits_a_colour_are_said(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = b"\0" + np.full(6, 0x1234, ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 2)), chunk(b"IEND", b"")]
    (tmp_path / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    (tmp_path / "wide.ppm").write_bytes(b"P6 2 2 65535\n" + np.full(12, 0x1234, ">u2").tobytes())
    for name in ("wide.png", "wide.ppm"):
        read_pixels, told = read(tmp_path / name, 2)
        assert (read_pixels == 0x12).all()
        assert told == ["16 bits a colour, brought to 8"]
    (tmp_path / "narrow.ppm").write_bytes(b"P6 2 2 100\n" + bytes([50] * 12))
    assert read(tmp_path / "narrow.ppm", 2)[1] == []


def _bad_files(folder: Path) -> dict[str, str]:
    """Files that are no images, and what is said of each."""
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "gray16.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tif")
    content = save(folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return {
        "empty.png": "it is empty",
        "text.png": "in no format that Pillow knows",
        "link.png": "No such file or directory",
        "pipe.png": "no regular file",
        "folder.png": "no regular file",
        "gray16.png": r"pixels \(mode I;16\) have more than 8 bits",
        "float.tif": r"pixels \(mode F\) have more than 8 bits",
        "cut.png": "",
        "huge.png": r"Image size \(400000000 pixels\) exceeds limit",
    }


def test_what_is_no_image_is_refused_by_one_line(tmp_path: Path) -> None:
    for name, why in _bad_files(tmp_path).items():
        with pytest.raises(BadImageError, match=f"^cannot read the image .*{name}: .*{why}") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    generator, file = np.random.default_rng(0), tmp_path / "x"
    outcomes: Counter[str] = Counter()
    for ending in ("png", "jpg", "tif", "webp", "bmp", "ppm"):
        content = save(tmp_path / f"whole.{ending}").read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            for place in generator.integers(0, min(len(content), 200), 3):
                damaged[place] = generator.integers(256)
            file.write_bytes(damaged[: generator.integers(len(content) // 2, len(content) + 1)])
            try:
                assert read(file)[0].shape == (8, 8, 3)
                outcomes["read"] += 1
            except BadImageError:
                outcomes["refused"] += 1
    assert outcomes["read"] and outcomes["refused"]


@pytest.mark.parametrize("size", [8, 5])
def test_bytes_are_decoded_as_their_file_is_read(tmp_path: Path, size: int) -> None:
    for ending in ("png", "jpg", "bmp", "webp"):
        file = save(tmp_path / f"whole.{ending}")
        assert (decode(file.read_bytes(), size) == read(file, size)[0]).all()
        with pytest.raises((OSError, SyntaxError)):
            decode(file.read_bytes()[: -file.stat().st_size // 3], size)


def test_only_what_is_wrong_with_one_file_can_be_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [(save(tmp_path / f"{number}.png"), number) for number in range(3)]
    samples[1][0].write_bytes(b"")
    skipped: list[BadImageError] = []
    assert [label for _, label in read_all(samples, read_image, 4, Counter(), skip=skipped.append)] == [0, 2]
    assert [str(error) for error in skipped] == [f"cannot read the image {samples[1][0]}: it is empty"]
    for error, said in ((OSError(errno.EIO, "gone"), "Input/output error"), (MemoryError(), "not fit into memory")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(UsageError, match=said) as caught:
            list(read_all(samples, read_image, 4, Counter(), skip=skipped.append))
        assert not isinstance(caught.value, BadImageError)


def test_names_can_be_printed_anywhere() -> None:
    assert printable(Path("caf\udce9")) == r"caf\xe9"
    assert printable("日本 a\tb") == r"日本 a\tb"


def test_what_is_said_of_images_reaches_the_data_set(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "images", 2, 1)
    Image.fromarray(pixels(channels=4)).save(root / "train" / "dark" / "clear.png")
    (root / "train" / "dark" / ".hidden").touch()
    data = load_dataset(DataConfig(name="image_folder", dir=str(root), image_size=4))
    assert data.remarks == (
        f"{root}: left out: hidden or of the system: 1 (train/dark/.hidden)",
        "images 1 with transparency, which is dropped",
    )


def test_large_folders_are_to_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcsgd.data.sets.image_folder.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match=r"pack it \(hpcsgd data pack\), and set data.name to pack"):
        load_dataset(DataConfig(name="image_folder", dir=str(make_folders(tmp_path, 2, 1))))
