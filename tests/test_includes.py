# SPDX-License-Identifier: MIT
"""Includes run one way, downward, as in ARCHITECTURE.md: a file includes its own folder and those
below it, by their path from the root, and no header includes itself in a circle."""
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The longest folder that a file lies in counts; a folder may always include itself.
BELOW = {
    "base": [],
    "tensor": ["base"],
    "lfm2": ["tensor", "base"],
    "text": ["lfm2", "tensor", "base"],
    "vision": ["tensor", "base"],
    "vision/decode": ["base"],
    "audio": ["lfm2", "tensor", "base"],
    "audio/device": ["base"],
    "session": ["text", "audio", "vision", "lfm2", "tensor", "base"],
    "ipc": ["session", "base"],
    "daemon": ["ipc", "session", "tensor", "base"],
    "tools": ["session", "text", "audio", "vision", "lfm2", "tensor", "base"],
    "clients": ["base"],
    "fetch": ["base"],
}


def includes():
    """{file: [what it includes]}"""
    files = (path for folder in BELOW if "/" not in folder
             for path in (ROOT / folder).rglob("*.[ch]"))
    return {str(path.relative_to(ROOT)): re.findall(r'^#\s*include "([^"]+)"', path.read_text(),
                                                    re.MULTILINE)
            for path in files}


def folder_of(file):
    return max((folder for folder in BELOW if file.startswith(folder + "/")), key=len)


class Includes(unittest.TestCase):
    def test_they_run_downward(self):
        found = includes()
        self.assertGreater(len(found), 300)
        for file, names in found.items():
            folder = folder_of(file)
            allowed = tuple(below + "/" for below in BELOW[folder] + [folder])
            for name in names:
                with self.subTest(file=file, includes=name):
                    self.assertTrue(name.startswith(allowed))

    def test_no_header_includes_itself(self):
        headers = {file: names for file, names in includes().items() if file.endswith(".h")}
        while headers:
            leaves = [file for file, names in headers.items()
                      if not any(name in headers for name in names)]
            self.assertTrue(leaves, f"in a circle: {sorted(headers)}")
            for file in leaves:
                del headers[file]


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
