"""Sample reasonings of an adapter for test users, and count what parses, what is true and what contradicts itself.

The record stands in results/audits/DATASET-PROFILE/; its end status is 1 if a bar is missed. See
``rrec_lib/training/skill_audit.py``.

    python scripts/audit_reasonings.py --rows 300
"""

import sys

from rrec_lib.core.console import script
from rrec_lib.experiments.audit_runs import ROWS, run_audit
from rrec_lib.experiments.readings import reading_parser, what_to_read


@script
def main() -> None:
    parser = reading_parser(__doc__, "audits", test_rows=False)
    parser.add_argument("--rows", type=int, default=ROWS, help="reasonings (default: %(default)s)")
    chosen = parser.parse_args()
    sys.exit(1 if run_audit(*what_to_read(chosen), chosen.seed, chosen.rows) else 0)


if __name__ == "__main__":
    main()
