"""Several commands of ``hpcsgd``, one after another in one job: each argument is the words of one, in JSON."""

from __future__ import annotations

import json
import sys

from hpcsgd.cli import main
from tests.single.api.own_recipes import import_torchvision

if __name__ == "__main__":
    if any("resnet18" in words for words in sys.argv[1:]):
        import_torchvision()
    for words in sys.argv[1:]:
        if code := main(json.loads(words)):
            sys.exit(code)
