#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A peer for lfm-bench --mmproj and --audio-set: llama.cpp's multimodal tool.

    MTMD=DIR/llama-mtmd-cli lfm-bench --model F --mmproj F --size 512x512 \\
        --peer "python3 bench/peer_mtmd.py" --json

The tool reads the picture or the clip, encodes it and says how long that took, to the millisecond;
the language model (any that fits the file) then makes one token. Its views are those of the
reference only where a picture is not tiled.
"""

import argparse
import json
import os
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--mmproj", required=True)
given = parser.add_mutually_exclusive_group(required=True)
given.add_argument("--image")
given.add_argument("--audio")
parser.add_argument("-t", default="0")
parser.add_argument("--json", action="store_true")
options = parser.parse_args()

command = [os.environ.get("MTMD", "llama-mtmd-cli"), "-m", options.model, "--mmproj",
           options.mmproj, *(["--image", options.image] if options.image else
                             ["--audio", options.audio]), "-p", "what", "-n", "1"]
if options.t != "0":
    command += ["-t", options.t]
run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT, check=False)
times = re.findall(rb"(?:slice encoded|batch encoding done) in (\d+) ms", run.stdout)
if run.returncode != 0 or not times:
    sys.exit(f"{command[0]} ended with {run.returncode} and named no time for encoding")
print(json.dumps({"image_encode_ms" if options.image else "encode_ms": sum(map(int, times))}))
