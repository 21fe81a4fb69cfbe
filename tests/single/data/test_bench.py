"""``hpcsgd data bench``: a line a stage, and one message for what cannot be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.cli import main


@pytest.fixture
def encoded(packed: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same images, as their files have them."""
    target = packed.with_name("encoded.h5")
    assert main(["data", "pack", str(packed.with_name("images")), str(target), "--size", "16", "--encoded"]) == 0
    capsys.readouterr()
    return target


@pytest.mark.parametrize(
    ("pack", "read"), [("packed", ["read"]), ("encoded", ["read", "decode, 1 thread", "decode, 3 threads"])]
)
def test_each_stage_has_its_rate(
    pack: str, read: list[str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(pack)
    sizes = [file.stat().st_size for file in path.with_name("images").glob("train/*/*")]
    stored = f" (stored in {sum(sizes) / 24e3:.1f} kB each)" if pack == "encoded" else ""
    words = ["--batch_size", "6", "--image_size", "12", "--device", "cpu", "--workers", "3"]
    assert main(["data", "bench", str(path), *words]) == 0
    shown = capsys.readouterr()
    head, columns, *rows = shown.out.splitlines()
    assert f"24 batches of 6 from the page cache, images of 16 x 16 x 3{stored} cut to 12, on the CPU" in head
    assert columns.split() == ["stage", "images/s", "ms", "a", "batch", "GB/s"]
    rates = {row[:24].strip(): [float(cell.replace(",", "")) for cell in row[24:].split()] for row in rows}
    assert [(stage, len(cells)) for stage, cells in rates.items()] == [
        *((stage, 3 if stage == "read" else 2) for stage in read),
        ("cut, mirror, normalise", 2),
        ("all, read ahead", 2),
    ]
    for rate, milliseconds, *_ in rates.values():
        # Both are rounded: the milliseconds of a small batch to two places.
        assert rate > 0 and 6e3 / (milliseconds + 0.005) <= rate + 0.5
    assert f"{96 if len(read) == 1 else 120}/" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch_size", "25"], "--batch_size is 25: it must be 1 to 24, the training images of "),
        (["--batch_size", "0"], "--batch_size is 0: it must be 1 to 24, the training images of "),
        (["--image_size", "0"], "--image_size is 0: it must be 1 or more"),
        (["--workers", "-1"], "--workers is -1: it must be 0 to 1024"),
        (["--image_size", "17"], "has images of 16: choose 16 or less"),
        (
            ["--device", "cuda"],
            "device is cuda, but rank 0 sees no GPU: check CUDA_VISIBLE_DEVICES, or choose device: cpu",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: list[str], message: str, packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert main(["data", "bench", str(packed), *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and len(shown.err.splitlines()) == 1 and not shown.out


def test_what_is_no_pack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no pack")
    for place, message in (("nothing.h5", "there is no such file"), ("text", "cannot read the pack"), ("", "director")):
        assert main(["data", "bench", str(tmp_path / place)]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
