# SPDX-License-Identifier: MIT
"""Spiel's speech provider interface, to a real daemon with the speaking model of this repository,
read as strictly as Spiel's own client reads: one read() for each part of a packet.

usage: dbus-run-session -- /usr/bin/python3 test_provider.py DAEMON SOURCE_ROOT
"""
import array
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import xml.etree.ElementTree as ET

import dbus

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_bus import ERROR, NAME, ROOT, Client, Daemon, wait_until  # noqa: E402

PROVIDER, PATH, INTERFACE = ("org.lfmd.Speech.Provider", "/org/lfmd/Speech/Provider",
                             "org.freedesktop.Speech.Provider")
PROPERTIES = "org.freedesktop.DBus.Properties"
VOICE = "lfmd-talk-q8_0/US female"


class Speech:
    """What comes out of a pipe: sound, and marks with the samples that came before them."""

    def __init__(self, fd):
        self.sound, self.marks = array.array("h"), []
        header = os.read(fd, 4)
        if header != b"0.01":
            raise AssertionError(header)
        while True:
            kind = os.read(fd, 1)
            if not kind:
                break
            if kind == b"\1":
                size, = struct.unpack("=I", os.read(fd, 4))
                data = os.read(fd, size)
                if len(data) != size:
                    raise AssertionError("%d of %d bytes" % (len(data), size))
                self.sound.frombytes(data)
            else:
                event, _, _, length = struct.unpack("=BIII", os.read(fd, 13))
                self.marks.append((event, os.read(fd, length).decode(), len(self.sound)))
        os.close(fd)

    @property
    def seconds(self):
        return len(self.sound) / 24000

    def pitch(self):
        """Zero crossings from below in a second, where it is loud."""
        s = self.sound
        loud = [i for i in range(1, len(s)) if s[i - 1] < 0 <= s[i]]
        return len(loud) / self.seconds


class Provider(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.models = self.folder.name + "/data/lfmd/models"  # of the user
        self.daemon = Daemon(self.folder.name)
        self.client = Client()

    @property
    def object(self):
        return self.client.bus.get_object(PROVIDER, PATH, introspect=False)

    def tearDown(self):
        self.client.close()
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def get(self, name):
        return self.object.Get(INTERFACE, name, dbus_interface=PROPERTIES)

    def begin(self, text, voice="", pitch=1.0, rate=1.0, ssml=False, language="", client=None):
        read, write = os.pipe()
        try:
            (client or self.object).Synthesize(
                dbus.types.UnixFd(write), text, voice, pitch, rate, ssml, language,
                dbus_interface=INTERFACE)
        except dbus.DBusException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return read

    def say(self, text, **how):
        return Speech(self.begin(text, **how))

    def refused(self, name, words, *arguments, **options):
        with self.assertRaises(dbus.DBusException) as caught:
            self.begin(*arguments, **options)
        self.assertEqual(caught.exception.get_dbus_name(), ERROR + name)
        self.assertIn(words, caught.exception.get_dbus_message())

    def model(self):
        return self.client.manager.FindModel("lfmd-talk")

    def loaded(self):
        return self.client.get(self.model(), "Model", "Loaded")

    def unload(self):
        self.client.at(self.model(), NAME + ".Model").Unload()

    # --- voices

    def test_listing_the_voices_loads_nothing(self):
        before = self.daemon.resident_kb()
        voices = self.get("Voices")
        self.assertEqual(self.get("Name"), "lfmd")
        (title, ident, form, features, languages), = voices
        self.assertEqual((str(ident), list(languages)), (VOICE, ["en-US"]))
        self.assertIn("lfmd-talk", title)
        self.assertRegex(form, "^audio/x-spiel,format=S16(LE|BE),channels=1,rate=24000$")
        self.assertEqual(features & 0x89, 0x88)  # marks and characters, no events of words
        self.assertLess(self.daemon.resident_kb() - before, 2000)

    def test_the_interface_is_as_its_file_says(self):
        live = ET.fromstring(self.object.Introspect(
            dbus_interface="org.freedesktop.DBus.Introspectable"))
        file = ET.parse(ROOT + "/ipc/org.freedesktop.Speech.Provider.xml").getroot()

        def members(root):
            interface = root.find("interface[@name='%s']" % INTERFACE)
            return sorted((e.tag, e.get("name"), e.get("type"),
                           tuple((a.get("name"), a.get("type"), a.get("direction"))
                                 for a in e.findall("arg"))) for e in interface
                          if e.tag != "annotation")
        self.assertEqual(members(live), members(file))

    def test_other_voices_are_told(self):
        told = []
        watcher = subprocess.Popen(
            ["dbus-monitor", "--session", "type='signal',path='%s'" % PATH],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(watcher.stdout.close)
        self.addCleanup(watcher.wait)
        self.addCleanup(watcher.terminate)
        threading.Thread(target=lambda: told.extend(watcher.stdout), daemon=True).start()
        wait_until(lambda: any("NameAcquired" in line for line in told))
        os.makedirs(self.models)
        for name in ("", "mmproj-", "vocoder-", "tokenizer-"):
            shutil.copy("%s/models/%slfmd-talk-q8_0.gguf" % (ROOT, name),
                        "%s/%stwin.gguf" % (self.models, name))
        self.client.manager.Rescan()
        wait_until(lambda: any("PropertiesChanged" in line for line in told))
        self.assertIn("twin/US female", [voice[1] for voice in self.get("Voices")])

    # --- sound

    def test_a_text_is_spoken_and_the_second_time_without_the_model(self):
        first = self.say("good morning")
        self.assertGreater(first.seconds, 0.3)
        self.assertGreater(max(first.sound), 3000)
        self.unload()
        wait_until(lambda: not self.loaded())
        again = self.say("good morning", voice=VOICE)
        self.assertEqual(first.sound, again.sound)
        self.assertFalse(self.loaded())

    def test_rate_and_pitch(self):
        plain = self.say("good morning to you")
        fast = self.say("good morning to you", rate=3.0)
        slow = self.say("good morning to you", rate=0.5)
        high = self.say("good morning to you", pitch=2.0)
        self.assertAlmostEqual(fast.seconds, plain.seconds / 3, delta=0.15)
        self.assertAlmostEqual(slow.seconds, plain.seconds * 2, delta=0.3)
        self.assertAlmostEqual(high.seconds, plain.seconds, delta=0.1)
        self.assertGreater(high.pitch(), 1.3 * plain.pitch())
        self.assertGreater(self.say("hello", rate=1e9, pitch=-1e9).seconds, 0.05)

    def test_marks_stand_where_they_belong(self):
        whole = self.say('<speak>hello.<mark name="a"/> <break time="500ms"/>hello'
                         '<mark name="b\u00e9"/></speak>', ssml=True)
        word = len(self.say("hello").sound)
        self.assertEqual(whole.marks, [(4, "a", word), (4, "b?", 2 * word + 12000)])
        self.assertEqual(len(whole.sound), 2 * word + 12000)

    def test_long_texts_are_cut_and_numbers_are_said(self):
        text = "At 10:30 there are 21 files, " * 8
        self.assertGreater(self.say(text).seconds, 8)

    def test_single_letters_and_signs_come_out(self):
        for character in "abcdefghijklmnopqrstuvwxyz0123456789,.-?":
            said = self.say('<say-as interpret-as="characters">%s</say-as>' % character, ssml=True)
            self.assertGreater(said.seconds, 0.15, character)
            self.assertGreater(max(said.sound), 3000, character)

    def test_texts_at_once_come_out_each_for_itself(self):
        alone = [self.say("the number is %d" % i).sound for i in range(4)]
        clients = [Client() for _ in range(4)]
        pipes = [self.begin("the number is %d. " % i * 8,
                            client=c.bus.get_object(PROVIDER, PATH, introspect=False))
                 for i, c in enumerate(clients)]
        for i, pipe in enumerate(pipes):
            self.assertEqual(Speech(pipe).sound, alone[i] * 8)
        for client in clients:
            client.close()

    # --- readers that behave badly

    def test_a_slow_reader_keeps_nobody_from_speaking(self):
        paused = self.begin("this is a sentence that goes on. " * 12)
        wait_until(lambda: fcntl.ioctl(paused, 0x541B, b"\0" * 4) > b"\0" * 4)
        for i in range(5):
            self.assertGreater(self.say("word %d" % i).seconds, 0.2)
        self.assertGreater(Speech(paused).seconds, 12)

    def test_a_pipe_whose_owner_would_have_it_wait_keeps_nobody_waiting(self):
        read, write = os.pipe()
        self.object.Synthesize(dbus.types.UnixFd(write), "this is a sentence that goes on. " * 12,
                               "", 1.0, 1.0, False, "", dbus_interface=INTERFACE)
        os.set_blocking(write, True)
        wait_until(lambda: struct.unpack("i", fcntl.ioctl(read, 0x541B, b"\0" * 4))[0] > 57344)
        for i in range(3):
            self.assertGreater(self.say("word %d" % i).seconds, 0.2)
        self.assertTrue(os.get_blocking(write))
        os.close(write)
        self.assertGreater(Speech(read).seconds, 12)

    def test_a_closed_pipe_cancels(self):
        os.close(self.begin("this is a sentence that goes on. " * 7000))
        self.say("done")
        self.unload()  # which is refused while somebody speaks

    def test_what_cannot_be_is_refused(self):
        self.refused("InvalidArgument", "no voice 'nobody'", "hello", voice="nobody")
        self.refused("InvalidArgument", "no text", " ")
        read, write = os.pipe()
        for fd in (read, os.open("/dev/null", os.O_WRONLY), os.open(ROOT, os.O_RDONLY),
                   socket.socket(socket.AF_UNIX).detach()):
            with self.assertRaises(dbus.DBusException) as caught:
                self.object.Synthesize(dbus.types.UnixFd(fd), "hello", "", 1.0, 1.0, False, "",
                                       dbus_interface=INTERFACE)
            os.close(fd)
            self.assertIn("writing end of a pipe", caught.exception.get_dbus_message())
        os.close(write)

    def test_nobody_speaks_where_no_model_does(self):
        self.daemon.stop()
        os.mkdir(self.folder.name + "/empty")
        self.daemon = Daemon(self.folder.name, models=self.folder.name + "/empty")
        self.assertEqual(list(self.get("Voices")), [])
        self.refused("ModelNotInstalled", "", "hello")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
