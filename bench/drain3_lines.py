"""Drain3 over the lines of a file: run by an interpreter that has `drain3` (bench/templates.py).

    PYTHON bench/drain3_lines.py LINES.json

Prints JSON: seconds, processor seconds (cpu), and the cluster of every line after all were seen. Masking is that of the
example configuration in Drain3's repository; the rest are Drain3's defaults.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

_LEFT, _RIGHT = r"((?<=[^A-Za-z0-9])|^)", r"((?=[^A-Za-z0-9])|$)"
MASKS = (
    (rf"{_LEFT}(([0-9a-f]{{2,}}:){{3,}}([0-9a-f]{{2,}})){_RIGHT}", "ID"),
    (rf"{_LEFT}(\d{{1,3}}\.\d{{1,3}}\.\d{{1,3}}\.\d{{1,3}}){_RIGHT}", "IP"),
    (rf"{_LEFT}([0-9a-f]{{6,}} ?){{3,}}{_RIGHT}", "SEQ"),
    (rf"{_LEFT}([0-9A-F]{{4}} ?){{4,}}{_RIGHT}", "SEQ"),
    (rf"{_LEFT}(0x[a-f0-9A-F]+){_RIGHT}", "HEX"),
    (rf"{_LEFT}([\-\+]?\d+){_RIGHT}", "NUM"),
    (r"(?<=executed cmd )(\".+?\")", "CMD"),
)


def main() -> None:
    lines = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(*mask) for mask in MASKS]
    miner = TemplateMiner(config=config)
    began, cpu = time.perf_counter(), time.process_time()
    clusters = [miner.add_log_message(line)["cluster_id"] for line in lines]
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "clusters": clusters}))


if __name__ == "__main__":
    main()
