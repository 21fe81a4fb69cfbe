"""What is trained: the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from hpcsgd.config.check import (
    IMPORT_PATH,
    check_choice,
    check_values,
    free_field,
    is_among,
    is_import_path,
    path_field,
    require,
    used_with,
)

ModelName = Literal[
    "fully_connected",
    "simple_cnn_base",
    "simple_cnn_narrow",
    "simple_cnn_wide",
    "lenet",
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet56",
    "resnet50",
    "vgg11",
    "densenet40_12",
    "wideresnet28_10",
    "lstm",
    "transformer",
]
DatasetName = Literal[
    "fashion_mnist", "mnist", "cifar10", "cifar100", "synthetic", "text", "image_folder", "pack", "given"
]
LANGUAGE_MODELS = ("lstm", "transformer")
OWN = ("given", IMPORT_PATH)
"""Data of a user's own: what a program brings with it, or what an import path makes."""

PACKAGED = tuple(name for name in get_args(DatasetName) if name not in OWN)
ON_DISK = tuple(name for name in PACKAGED if name != "synthetic")
PICTURES = tuple(name for name in PACKAGED if name != "text")

MOST_WORKERS = 1024


@dataclass(frozen=True)
class ModelConfig:
    """The network that every learner holds.

    Attributes:
        name: architecture; or an import path (``package.module.Name``) of a class of modules, or of a function that
            makes one.
        init_args: arguments of a model by import path.
        widths: hidden widths of ``fully_connected``; () is a linear model.
        zero_gamma: start the last BatchNorm scale of each residual block at 0 (Goyal, section 5.1).
        channels_last: keep convolution weights and images in channels-last memory order: ``true``, ``false``, or
            ``auto``: in runs on NVIDIA's GPUs in a ``precision`` for their tensor cores, which is all but float32,
            where the network has such weights and takes such images.
        embedding: width of the token embedding of ``lstm`` and ``transformer``, and of all of the latter.
        hidden: units of a layer of ``lstm``, and of the hidden layers of ``transformer``.
        layers: layers of ``lstm``, blocks of ``transformer``.
        heads: attention heads of ``transformer``; they divide ``embedding``.
    """

    name: ModelName | str = "fully_connected"
    init_args: dict[str, Any] = free_field()
    widths: tuple[int, ...] = used_with("name", "fully_connected", default=(256, 256))
    zero_gamma: bool = False
    channels_last: bool | Literal["auto"] = "auto"
    embedding: int = used_with("name", *LANGUAGE_MODELS, default=128)
    hidden: int = used_with("name", *LANGUAGE_MODELS, default=256)
    layers: int = used_with("name", *LANGUAGE_MODELS, default=2)
    heads: int = used_with("name", "transformer", default=4)

    def __post_init__(self) -> None:
        check_values(self, "model.")
        check_choice("model.name", self.name, ModelName)
        own = is_import_path(self.name)
        require(own or not self.init_args, "model.init_args", self.init_args, f"unset for {self.name}")
        for name in ("embedding", "hidden", "layers", "heads"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "1 or more")
        fits = self.name != "transformer" or self.embedding % self.heads == 0
        require(fits, "model.embedding", self.embedding, f"a multiple of model.heads, {self.heads}")
        language = self.name in LANGUAGE_MODELS
        require(not (language and self.channels_last is True), "model.channels_last", True, f"false for {self.name}")
        require(all(w >= 1 for w in self.widths), "model.widths", self.widths, "positive integers")
        residual = not own and self.name.startswith(("resnet", "wideresnet"))
        require(residual or not self.zero_gamma, "model.zero_gamma", True, "false for a model without residual blocks")


@dataclass(frozen=True)
class DataConfig:
    """The data set, its augmentation and the rule for the tail of an epoch.

    Attributes:
        name: data set; or an import path (``package.module.Name``) of a user's own, see :mod:`hpcsgd.data.own`: a class
            or a function that gives the splits by name; ``given`` where a program brings its data with it.
        init_args: arguments of data by import path.
        dir: directory of its files; unset, the usual places are searched. Of ``text``: a file, or a folder of .txt
            files; of ``image_folder``: the folder of train/CLASS/IMAGE and val/CLASS/IMAGE; of ``pack``: the file.
        image_size: height and width of an image of ``image_folder`` or ``pack``; unset, 224, or as packed.
        random_resized_crop: cut a random part of each training image of a ``pack`` and bring it to the size (Goyal).
        antialias: of ``random_resized_crop``: average the pixels that one of a smaller image covers, of boxes of whole
            pixels, as torchvision does; else each is taken from the four nearest pixels.
        block_size: images of a ``pack`` that are read at one place; blocks come in random order.
        stage_dir: directory on each node that the pack is copied to before it is read; a copy of the same content is
            taken.
        tokens: what a token of ``text`` is: a byte, or a word between whitespace.
        vocabulary: words of ``tokens: whitespace`` that are told apart, the most frequent ones of the training split.
        sequence_length: tokens of a sample of ``text``.
        train_fraction: share of the training set, without what is held out, to train on: the same samples whatever the
            seed, and all of a smaller share are in a larger one.
        flip: mirror training images with probability 1/2.
        crop_padding: pad training images by so many zero pixels and crop back at a random place; 0 is off.
        tail: what becomes of the last samples of an epoch that do not fill a global batch: ``drop`` leaves them
            out (another permutation each epoch), ``wrap`` fills the batch from the start of the permutation,
            ``keep`` makes a smaller last batch, cut as evenly as can be.
        validation_samples: last samples of the training split that are held out of training, as the split ``val``.
        workers: processes of each rank that read a torch ``Dataset``, or threads that decode the images of an encoded
            ``pack``; unset, the rank's cores (its share, where others run on them) less one, at least 1 and at
            most 4 processes or 16 threads; 0: a ``Dataset`` is read by the training process, a ``pack`` by one thread.
        prefetch: batches that each of them reads ahead.
        pin_memory: bring batches into page-locked memory first; unset, on a GPU.
        collate: import path of the function that makes inputs and targets of a list of samples of a ``Dataset``; unset,
            torch's ``default_collate``.
        steps_per_epoch: steps that are an epoch of iterable data, which has no length.
        synthetic_shape: channels, height, width of ``synthetic`` images.
        synthetic_classes: classes of ``synthetic``.
        synthetic_train_samples: training samples of ``synthetic``.
        synthetic_test_samples: test samples of ``synthetic``.
    """

    name: DatasetName | str = "fashion_mnist"
    init_args: dict[str, Any] = free_field()
    dir: str | None = path_field(used_with=("name", ON_DISK))
    tokens: Literal["bytes", "whitespace"] = used_with("name", "text", default="bytes")
    vocabulary: int = used_with("tokens", "whitespace", default=10_000)
    sequence_length: int = used_with("name", "text", default=64)
    image_size: int | None = used_with("name", "image_folder", "pack", default=None)
    random_resized_crop: bool = used_with("name", "pack", default=False)
    antialias: bool = used_with("name", "pack", default=False)
    block_size: int = used_with("name", "pack", default=128)
    stage_dir: str | None = path_field(used_with=("name", ("pack",)))
    train_fraction: float = 1.0
    flip: bool = used_with("name", *PICTURES, default=False)
    crop_padding: int = used_with("name", *(name for name in PICTURES if name != "pack"), default=0)
    tail: Literal["drop", "wrap", "keep"] = "drop"
    validation_samples: int = 0
    workers: int | None = used_with("name", *OWN, "pack", default=None)
    prefetch: int = used_with("name", *OWN, default=2)
    pin_memory: bool | None = used_with("name", *OWN, default=None)
    collate: str | None = used_with("name", *OWN, default=None)
    steps_per_epoch: int | None = used_with("name", *OWN, default=None)
    synthetic_shape: tuple[int, int, int] = used_with("name", "synthetic", default=(1, 28, 28))
    synthetic_classes: int = used_with("name", "synthetic", default=10)
    synthetic_train_samples: int = used_with("name", "synthetic", default=4096)
    synthetic_test_samples: int = used_with("name", "synthetic", default=1024)

    def __post_init__(self) -> None:
        check_values(self, "data.")
        check_choice("data.name", self.name, DatasetName)
        own = is_import_path(self.name)
        require(own or not self.init_args, "data.init_args", self.init_args, f"unset for {self.name}")
        require(self.vocabulary >= 1, "data.vocabulary", self.vocabulary, "1 or more")
        require(self.sequence_length >= 1, "data.sequence_length", self.sequence_length, "1 or more")
        require(self.image_size is None or self.image_size >= 1, "data.image_size", self.image_size, "1 or more")
        require(self.block_size >= 1, "data.block_size", self.block_size, "1 or more")
        packed = self.name == "pack"
        require(not packed or self.train_fraction == 1, "data.train_fraction", self.train_fraction, "1 for a pack")
        resized = self.random_resized_crop
        require(resized or not self.antialias, "data.antialias", True, "false without data.random_resized_crop")
        require(0 < self.train_fraction <= 1, "data.train_fraction", self.train_fraction, "in (0, 1]")
        require(self.crop_padding >= 0, "data.crop_padding", self.crop_padding, "0 or more")
        require(self.validation_samples >= 0, "data.validation_samples", self.validation_samples, "0 or more")
        require(0 <= (self.workers or 0) <= MOST_WORKERS, "data.workers", self.workers, f"0 to {MOST_WORKERS}")
        require(1 <= self.prefetch <= MOST_WORKERS, "data.prefetch", self.prefetch, f"1 to {MOST_WORKERS}")
        steps = self.steps_per_epoch
        require(steps is None or steps >= 1, "data.steps_per_epoch", steps, "1 or more")
        path = self.collate is None or is_import_path(self.collate)
        require(path, "data.collate", self.collate, "an import path, as package.module.name")
        require(min(self.synthetic_shape) >= 1, "data.synthetic_shape", self.synthetic_shape, "three positive sizes")
        require(self.synthetic_classes >= 2, "data.synthetic_classes", self.synthetic_classes, "2 or more")
        for name in ("synthetic_train_samples", "synthetic_test_samples"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "1 or more")

    @property
    def is_own(self) -> bool:
        """Whether it is of a user's own."""
        return is_among(self.name, OWN)


def check_fit(model: ModelConfig, data: DataConfig) -> None:
    """Refuse a language model on images, and a network for images on text."""
    own = is_import_path(model.name) or data.is_own
    if not own and (model.name in LANGUAGE_MODELS) != (data.name == "text"):
        wanted = "lstm or transformer" if data.name == "text" else "a network for images, or data.name text"
        raise ValueError(f"model.name is {model.name!r}, and data.name {data.name!r}: they do not fit; choose {wanted}")
