"""``hpcsgd data fetch``, ``hpcsgd data pack`` and ``hpcsgd data bench``."""

from __future__ import annotations

import argparse

from hpcsgd.config import paths
from hpcsgd.errors import UsageError


def data(words: list[str]) -> int:
    """``hpcsgd data COMMAND ...``; gives the exit code."""
    arguments = make_parser().parse_args(words)
    if arguments.command == "fetch":
        from hpcsgd.data.fetch import fetch

        print(fetch(arguments.name, arguments.to, arguments.source))
        return 0
    if arguments.command == "bench":
        from hpcsgd.data.bench import bench

        form = arguments.batch_size, arguments.image_size, arguments.device
        print(bench(arguments.pack, *form, antialias=arguments.antialias, workers=arguments.workers))
        return 0
    from hpcsgd.data.packing import pack

    if arguments.size < 1:
        raise UsageError(f"--size is {arguments.size}: it must be 1 or more")
    changes = {"encoded": arguments.encoded, "overwrite": arguments.overwrite, "skip_bad": arguments.skip_bad}
    print(pack(arguments.source, arguments.target, arguments.size, **changes))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The commands of ``hpcsgd data``."""
    parser = argparse.ArgumentParser(prog="hpcsgd data")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetcher = commands.add_parser("fetch", help="bring a data set and check it")
    fetcher.add_argument("name", metavar="NAME", help="fashion_mnist, mnist, cifar10 or cifar100")
    fetcher.add_argument("--to", metavar="DIR", type=paths.argument, help="where to (default: the user's cache)")
    fetcher.add_argument(
        "--from", metavar="SOURCE", dest="source", default="auto", help="a directory, debian, web, or auto (default)"
    )
    packer = commands.add_parser("pack", help="pack folders of images into one file")
    packer.add_argument(
        "source", metavar="SOURCE", type=paths.argument, help="folder of train/CLASS/IMAGE and val/CLASS/IMAGE"
    )
    packer.add_argument("target", metavar="OUT.h5", type=paths.argument, help="the pack")
    packer.add_argument("--size", type=int, default=256, metavar="N", help="height and width (default: %(default)s)")
    packer.add_argument(
        "--encoded", action="store_true", help="keep the files as they are, to be decoded as they are read"
    )
    packer.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    packer.add_argument("--skip_bad", action="store_true", help="leave out files that cannot be read, and name them")
    meter = commands.add_parser("bench", help="measure how fast a pack is read and augmented")
    meter.add_argument("pack", metavar="FILE", type=paths.argument, help="a file of hpcsgd data pack")
    meter.add_argument("--batch_size", type=int, default=256, metavar="N", help="of a rank (default: %(default)s)")
    meter.add_argument("--image_size", type=int, metavar="N", help="height and width to cut to (default: as packed)")
    meter.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    meter.add_argument("--antialias", action="store_true", help="as data.antialias")
    meter.add_argument("--workers", type=int, metavar="N", help="threads that decode, as data.workers")
    return parser
