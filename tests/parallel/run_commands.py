"""Several commands of ``hpcsgd``, one after another in one job: each argument is the words of one, in JSON."""

from __future__ import annotations

import json
import sys

from hpcsgd.cli import main

if __name__ == "__main__":
    for words in sys.argv[1:]:
        if code := main(json.loads(words)):
            sys.exit(code)
