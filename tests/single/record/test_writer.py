"""What the writer writes, as h5py, pandas and xarray find it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from hpcsgd.record import layout
from hpcsgd.record.reader import load_run
from hpcsgd.record.schema import (
    INDEX,
    ITERATION_COLUMNS,
    RANK_COLUMNS,
    SCHEMA_VERSION,
    STATISTICS,
    TABLES,
)
from hpcsgd.record.writer import RunLogWriter
from tests.single.record import log_samples


def fill(writer: RunLogWriter, width: int, steps: int = 7) -> None:
    """Rows in every table."""
    writer.append_segment(log_samples.table_rows("segments", 0, 1)[0])
    writer.append_iterations(*log_samples.iterations(0, 4, width))
    writer.append_iterations(*log_samples.iterations(4, steps - 4, width))
    writer.append_epochs(log_samples.table_rows("epochs", 0, 2))
    writer.append_evaluations(log_samples.table_rows("evaluations", 0, 1))
    writer.append_evaluations(log_samples.table_rows("evaluations", 1, 2))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_what_is_written_is_read(tmp_path: Path, world_size: int) -> None:
    with log_samples.make_writer(tmp_path / "run.h5", world_size) as writer:
        fill(writer, world_size)
        writer.set_status("completed")
    run = load_run(tmp_path)
    log_samples.check_run(run, world_size)
    assert [len(t) for t in (run.iterations, run.epochs, run.evaluations, run.ranks, run.segments)] == [
        7 * world_size,
        2,
        3,
        world_size,
        1,
    ]
    assert run.status == "completed"
    assert run.rank_axis == "rank"
    assert run.provenance == log_samples.PROVENANCE
    assert run.config == {"epochs": 2}


def test_all_is_readable_before_the_file_is_closed(tmp_path: Path) -> None:
    writer = log_samples.make_writer(tmp_path / "run.h5")
    assert load_run(tmp_path).iterations.empty
    fill(writer, 2)
    log_samples.check_run(load_run(tmp_path), 2)
    assert load_run(tmp_path).status == "running"
    writer.close()
    writer.close()


def test_statistics_in_place_of_ranks(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5", 4, axis="statistic") as writer:
        fill(writer, len(STATISTICS))
    run = load_run(tmp_path)
    assert run.rank_axis == "statistic"
    assert run.iterations["statistic"].tolist() == list(STATISTICS) * 7
    assert len(run.ranks) == 4
    with h5py.File(tmp_path / "run.h5") as log:
        assert list(log["iterations/statistic"].attrs["labels"]) == list(STATISTICS)


def test_some_ranks_only(tmp_path: Path) -> None:
    with RunLogWriter(
        tmp_path / "run.h5",
        ranks=log_samples.table_rows("ranks", 0, 4),
        rank_labels=[0, 2],
        rank_axis="rank",
        provenance={},
    ) as writer:
        writer.append_iterations(*log_samples.iterations(0, 3, 2))
    assert load_run(tmp_path).iterations["rank"].tolist() == [0, 2] * 3


def test_many_ranks_span_chunks(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5", 1500) as writer:
        writer.append_iterations(*log_samples.iterations(0, 2, 1500))
        writer.append_iterations(*log_samples.iterations(2, 1, 1500))
    log_samples.check_run(load_run(tmp_path), 1500)


def test_every_column_has_its_unit_meaning_and_scales(tmp_path: Path) -> None:
    log_samples.make_writer(tmp_path / "run.h5").close()
    with h5py.File(tmp_path / "run.h5") as log:
        assert log.attrs["schema_version"] == SCHEMA_VERSION
        groups = {"iterations": (*ITERATION_COLUMNS, *RANK_COLUMNS), **TABLES}
        assert set(log) == {*groups, "status"}
        for name, columns in groups.items():
            extra = {INDEX[name], "rank"} if name == "iterations" else {INDEX[name]}
            assert set(log[name]) == {c.name for c in columns} | extra
            for column in columns:
                dataset = log[name][column.name]
                assert dataset.dtype == np.dtype(column.dtype), column.name
                assert dataset.attrs["long_name"] == column.meaning
                assert dataset.attrs.get("units", "") == column.unit
                if not dataset.is_scale:
                    assert dataset.dims[0][0] == log[name][INDEX[name]]
        assert log["iterations/loss"].dims[1][0] == log["iterations/rank"]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 100_001])
def test_headers_lie_so_that_a_cut_write_cannot_halve_a_number(tmp_path: Path, length: int) -> None:
    """A header tells the number of rows in 8 bytes at a multiple of 8, however long the provenance before it is."""
    RunLogWriter(
        tmp_path / "run.h5",
        ranks=log_samples.table_rows("ranks", 0, 3),
        rank_labels=[0, 1, 2],
        rank_axis="rank",
        provenance={"text": "x" * length},
    ).close()
    with h5py.File(tmp_path / "run.h5") as log:
        addresses = [h5py.h5o.get_info(log[name][key].id).addr for name in INDEX for key in log[name]]
    assert {address % 8 for address in addresses} == {0}
    assert load_run(tmp_path).provenance["text"] == "x" * length


def test_new_parts_of_the_file_are_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OrderedFile tells new parts from old ones by their place: nothing is ever put into a hole."""
    # Chunks smaller than a page would fit into the holes that they leave.
    monkeypatch.setattr(layout, "chunk_shape", log_samples.tiny_chunks)
    writer = log_samples.make_writer(tmp_path / "run.h5")
    ends = [os.path.getsize(tmp_path / "run.h5")]
    places: dict[str, set[int]] = {}
    for step in range(3):
        writer.append_iterations(*log_samples.iterations(20 * step, 20, 2))
        writer.append_epochs(log_samples.table_rows("epochs", step, 1))
        with h5py.File(tmp_path / "run.h5") as log:
            for name, dataset in log["iterations"].items():
                chunks = dataset.id.get_num_chunks() if dataset.chunks else 0
                now = {dataset.id.get_chunk_info(i).byte_offset for i in range(chunks)}
                assert all(place >= ends[-1] for place in now - places.get(name, set())), name
                assert {place % layout.PAGE_BYTES for place in now} <= {0}
                places[name] = now
        ends.append(os.path.getsize(tmp_path / "run.h5"))
    writer.close()
    assert ends[0] < ends[1] < ends[2] < ends[3]
    assert os.path.getsize(tmp_path / "run.h5") == ends[3]


@pytest.mark.parametrize("chunk_rows", [1, 100, 1000])
@pytest.mark.parametrize("world_size", [1, 2, 3, 48, 511, 512, 1000])
def test_chunks_are_whole_pages(chunk_rows: int, world_size: int) -> None:
    for columns, width in (((*ITERATION_COLUMNS, *TABLES["ranks"]), ()), (RANK_COLUMNS, (world_size,))):
        for column in columns:
            rows, *ranks = layout.chunk_shape(column, width, chunk_rows)
            size = rows * np.dtype(column.dtype).itemsize * int(np.prod(ranks))
            assert size % layout.PAGE_BYTES == 0
            assert rows >= chunk_rows
            assert len(ranks) == len(width)
            assert all(1 <= chunk <= full for chunk, full in zip(ranks, width, strict=True))


def test_the_time_of_an_append_does_not_grow_with_holes(tmp_path: Path) -> None:
    """A file with holes would have them in HDF5's list of free space."""
    writer = log_samples.make_writer(tmp_path / "run.h5", 3)
    for step in range(0, 6000, 1000):
        writer.append_iterations(*log_samples.iterations(step, 1000, 3))
    writer.append_epochs(log_samples.table_rows("epochs", 0, 600))
    assert writer._file.id.get_freespace() < layout.PAGE_BYTES
    writer.close()


def test_xarray_opens_the_iterations(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        fill(writer, 2)
    with xarray.open_dataset(tmp_path / "run.h5", group="iterations", engine="h5netcdf") as dataset:
        assert dataset["loss"].dims == ("step", "rank")
        assert dataset["learning_rate"].dims == ("step",)
        assert dataset.sizes == {"step": 7, "rank": 2}
        assert dataset.indexes["step"].tolist() == list(range(7))
        assert dataset.indexes["rank"].tolist() == [0, 1]
        assert dataset["wall_seconds"].attrs["units"] == "s"
        assert dataset["wall_seconds"].attrs["long_name"].startswith("host time")
        np.testing.assert_array_equal(dataset["loss"].sel(step=3), log_samples.iterations(3, 1, 2)[2]["loss"][0])


def test_xarray_opens_the_whole_log_while_it_is_written(tmp_path: Path) -> None:
    writer = log_samples.make_writer(tmp_path / "run.h5")
    fill(writer, 2)
    with xarray.open_datatree(tmp_path / "run.h5", engine="h5netcdf") as tree:
        assert set(tree.children) == {"iterations", *TABLES}
        assert tree.attrs["schema_version"] == SCHEMA_VERSION
        assert tree["epochs"].sizes == {"epoch": 2}
        assert tree["evaluations"].sizes == {"evaluation": 3}
        assert tree["ranks"].sizes == {"rank": 2}
        assert tree["segments"]["world_size"].dims == ("segment",)
        assert tree["epochs/train_loss"].attrs["units"] == "1"
    writer.close()


def test_texts_are_kept_as_utf8_and_cut_at_the_width(tmp_path: Path) -> None:
    rows = log_samples.table_rows("ranks", 0, 1)
    rows[0]["device"] = "Tensor-Prozessor Größe µ"
    rows[0]["cores"] = "0-1," * 100
    RunLogWriter(tmp_path / "run.h5", ranks=rows, rank_labels=[0], rank_axis="rank", provenance={}).close()
    ranks = load_run(tmp_path).ranks
    assert ranks["device"][0] == "Tensor-Prozessor Größe µ"
    assert ranks["cores"][0] == ("0-1," * 100)[:80]


def test_an_older_log_is_replaced(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        fill(writer, 2)
    log_samples.make_writer(tmp_path / "run.h5", 3).close()
    assert load_run(tmp_path).iterations.empty
    assert len(load_run(tmp_path).ranks) == 3
    assert os.listdir(tmp_path) == ["run.h5"]


def test_a_log_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        log_samples.make_writer(tmp_path / "missing" / "run.h5")
    with pytest.raises(TypeError, match="not JSON serializable"):
        RunLogWriter(tmp_path / "run.h5", ranks=[], rank_labels=[], rank_axis="rank", provenance={"a": {1}})
    assert os.listdir(tmp_path) == []


def test_a_log_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 has no part in it: at a full disk it may raise anything, or crash."""

    def disk_full(path: Path, content: bytes) -> int:
        with open(path, "wb") as file:
            file.write(content[:8192])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space"):
        log_samples.make_writer(tmp_path / "run.h5")
    assert os.listdir(tmp_path) == []


def test_a_writer_that_is_given_up_writes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = log_samples.make_writer(tmp_path / "run.h5")

    def disk_full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", disk_full)
    with pytest.raises(OSError, match="No space"):
        writer.append_iterations(*log_samples.iterations(0, 3, 2))
    writer.give_up()
    assert len(load_run(tmp_path).iterations) == 0


def test_a_full_disk_raises_and_loses_nothing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = log_samples.make_writer(tmp_path / "run.h5")
    writer.append_iterations(*log_samples.iterations(0, 3, 2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", disk_full)
        with pytest.raises(OSError, match="No space"):
            writer.append_iterations(*log_samples.iterations(3, 3, 2))
        assert len(load_run(tmp_path).iterations) == 6
    # With room again, the same rows can be appended.
    writer.append_iterations(*log_samples.iterations(3, 3, 2))
    writer.close()
    run = load_run(tmp_path)
    log_samples.check_run(run, 2)
    assert len(run.iterations) == 12


def test_columns_and_shapes_are_checked(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        step, shared, per_rank = log_samples.iterations(0, 2, 2)
        with pytest.raises(AssertionError):
            writer.append_iterations(step, {}, per_rank)
        with pytest.raises(AssertionError):
            writer.append_iterations(step, shared, {k: v for k, v in per_rank.items() if k != "loss"})
        with pytest.raises(AssertionError):
            writer.append_iterations(step, shared, {k: v[:, :1] for k, v in per_rank.items()})
        with pytest.raises(AssertionError):
            writer.append_iterations(step - 1, shared, per_rank)
        with pytest.raises(AssertionError):
            writer.append_epochs([{"epoch": 0}])
        with pytest.raises(AssertionError):
            writer.set_status("paused")
    assert load_run(tmp_path).iterations.empty
