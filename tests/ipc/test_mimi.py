# SPDX-License-Identifier: MIT
"""The voice of Mimi on the bus, with a tiny set of models: a file of its own in the place of the
detokenizer, and the files of LFM2-Audio.

usage: dbus-run-session -- /usr/bin/python3 test_mimi.py DAEMON DECODER SOURCE_ROOT
"""
import array
import glob
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_voice import RATE_OUT, Spoken, tone, vardict  # noqa: E402


class SpokenByMimi(Spoken):
    def test_frames_are_whole_and_nothing_is_owed_at_the_end(self):
        sounds = [self.spoken("Sentence number %d, with some more words." % i) for i in range(10)]
        self.assertEqual({len(sound) % (2 * RATE_OUT * 80 // 1000) for sound in sounds}, {0})
        self.assertGreater(max(map(len, sounds)), 0)
        loudest = max(max(map(abs, array.array("h", sound)), default=0) for sound in sounds)
        self.assertGreater(loudest, 1000)

    def test_the_model_is_listed_with_all_that_it_takes(self):
        path, _ = self.client.model()
        self.assertTrue(self.client.get(path, "Model", "Speaks"))
        files = sum(os.path.getsize(file) for file in glob.glob(self.folder.name + "/models/*"))
        self.assertEqual(self.client.get(path, "Model", "SizeBytes"), files)
        self.transcribe(self.recording(tone(1)))
        heard = self.client.get(path, "Model", "MemoryBytes")
        self.spoken("Some words.")
        self.assertGreater(self.client.get(path, "Model", "MemoryBytes"), heard)


class Mimi(SpokenByMimi, unittest.TestCase):
    """In the place of the detokenizer."""
    files = {"vocoder-talk": "audio/vocoder.f16", "tokenizer-talk": "audio/mimi"}


class FirstGeneration(SpokenByMimi, unittest.TestCase):
    """The files of LFM2-Audio: Mimi lies beside the depthformer."""
    files = {"audiodecoder-talk": "audio/audiodecoder.q8_0"}

    def test_a_file_that_lacks_a_part_is_told_by_its_name(self):
        path = self.folder.name + "/models/audiodecoder-talk.gguf"
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        with open(path, "wb") as file:
            file.write(data.replace(b"mlp.fc1.weight", b"mlp.fc9.weight"))
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        self.refused("InvalidArgument", "decoder_transformer.layers.0.mlp.fc1.weight",
                     self.client.manager.Speak, "hello", vardict())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
