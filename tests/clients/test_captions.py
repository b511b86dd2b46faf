# SPDX-License-Identifier: MIT
"""lfm-captions as people use it: a real window under Xvfb, a real daemon with the models of this
repository, a real sound server that plays the recordings they are measured with, and the
accessibility tree that a screen reader reads.

usage: /usr/bin/python3 test_captions.py LFM_CAPTIONS DAEMON SOURCE_ROOT [TEST...]   (nothing else
is needed) """
import json
import os
import re
import subprocess
import sys
import unittest

import desktop
from desktop import (PROGRAM, ROOT, Atspi, Gio, GLib, NAME, Window, end_daemon, everything, home,
                     models, pixel, showing, start, text_of, wait_for, xdotool)
from sound import Server


def permit(decision):
    Gio.bus_get_sync(Gio.BusType.SESSION).call_sync(
        NAME, "/org/lfmd/Assistant1", NAME + ".Manager", "SetPermission",
        GLib.Variant("(sss)", ("microphone", PROGRAM, decision)), None, 0, -1)


def setUpModule():
    global server
    desktop.setUpModule()
    server = Server(home)


def tearDownModule():
    server.stop()
    desktop.tearDownModule()


def recordings():
    with open(ROOT + "/models/eval/speech.jsonl") as file:
        for line in file:
            item = json.loads(line)
            yield "%s/models/eval/%s" % (ROOT, item["sound"]), item["text"].split()


class CaptionsWindow(Window):
    def __init__(self, *arguments, **environment):
        super().__init__("Captions", *arguments, **environment)

    def text(self):
        return text_of(self.find("text", "Captions"))

    def is_on(self, button):
        return self.find("push button", button).get_state_set().contains(Atspi.StateType.PRESSED)

    def hears(self):
        self.notice("^Listening to ")

    def hear_one(self, sink="spk"):
        """Play recordings until one was written down as it is: most of its words."""
        for path, words in recordings():
            before = self.text()
            server.play(path, sink)
            wait_for(lambda: self.text().endswith("\n") and self.text() != before,
                     lambda: "another sentence in %r" % self.text())
            line = self.text()[len(before):].strip()
            if len(set(line.split()) & set(words)) * 2 > len(set(words)):
                return line
        raise AssertionError("nothing was heard right: %r" % self.text())


class Captions(desktop.Case):
    window = CaptionsWindow

    def setUp(self):
        super().setUp()
        models(*os.listdir(ROOT + "/models"))
        permit("allow")
        if os.path.exists(home + "/config/lfmd/captions.ini"):
            os.unlink(home + "/config/lfmd/captions.ini")

    def test_what_the_computer_plays_is_shown_while_it_is_spoken(self):
        window = self.open()
        window.hears()
        path = max(recordings(), key=lambda item: len(item[1]))[0]
        player = start("paplay", "-d", "spk", path)
        wait_for(lambda: window.text() and not window.text().endswith("\n"), "a guess")
        player.wait()
        wait_for(lambda: window.text().endswith("\n"), "the sentence")
        first = window.text()
        second = window.hear_one()
        self.assertTrue(window.text().startswith(first))
        self.assertTrue(window.text().endswith(second + "\n"))
        self.assertEqual(window.close(), 0)

    def test_the_microphone_is_chosen_by_key_and_kept(self):
        window = self.open()
        window.hears()
        xdotool("key", "ctrl+1")
        window.notice("^Listening to the microphone")
        self.assertTrue(window.is_on("Microphone"))
        window.hear_one("room")
        self.assertEqual(window.close(), 0)
        window = self.open()
        window.notice("^Listening to the microphone")
        other = start(PROGRAM, "--source", "computer")
        window.notice("^Listening to what the computer plays")
        self.assertEqual(other.wait(), 0)

    def test_stopping_writes_down_what_was_said(self):
        window = self.open()
        window.hears()
        player = start("paplay", "-d", "spk", next(recordings())[0])
        wait_for(lambda: window.text(), "a guess")
        xdotool("key", "ctrl+l")
        window.notice("^Not listening$")
        self.assertTrue(window.text().endswith("\n"))
        self.assertFalse(window.is_on("Listen"))
        player.wait()
        xdotool("key", "ctrl+l")
        window.hears()
        self.assertTrue(window.is_on("Listen"))

    def test_letters_grow_and_colours_change_by_key(self):
        window = self.open()
        window.hears()
        window.hear_one()
        for _ in range(4):
            xdotool("key", "ctrl+plus")
        xdotool("key", "ctrl+t", "ctrl+t")
        wait_for(lambda: pixel(20, 200) == b"\0\0\0", "a black ground")  # blue, green, red
        wait_for(lambda: any(pixel(x, y) == b"\0\xff\xff" for y in range(60, 140)
                             for x in range(0, 300)),
                 "yellow letters")
        window.hear_one()  # and the end of it can be seen
        wait_for(lambda: any(pixel(x, y) == b"\0\xff\xff" for y in range(140, 220)
                             for x in range(0, 300)),
                 "the last line")
        with open(home + "/config/lfmd/captions.ini") as file:
            self.assertIn("size=50\ncontrast=yellow-on-black\n", file.read())
        xdotool("key", "ctrl+0", "ctrl+t")
        wait_for(lambda: pixel(20, 200) == b"\xff\xff\xff", "a white ground")
        self.assertEqual(window.close(), 0)

    def test_captions_are_saved_with_their_times_and_forgotten(self):
        window = self.open()
        window.hears()
        line = window.hear_one()
        xdotool("key", "ctrl+s")
        path = home + "/captions.txt"
        xdotool("search", "--sync", "--onlyvisible", "--name", "Save captions", "windowfocus",
                "--sync")
        xdotool("key", "ctrl+a")
        xdotool("type", path)
        xdotool("key", "Return")
        wait_for(lambda: os.path.exists(path) and os.path.getsize(path), "the file")
        with open(path) as file:
            saved = file.read()
        self.assertRegex(saved, r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  %s$" % re.escape(line))
        self.assertEqual(saved.count("\n"), window.text().count("\n"))
        window.xdotool("windowfocus", "--sync")
        xdotool("key", "ctrl+Delete")
        wait_for(lambda: window.text() == "", "an empty window")

    def test_every_control_has_a_name_and_the_keyboard_reaches_it(self):
        window = self.open()
        window.hears()
        for accessible, role in everything(window.frame):
            if not showing(accessible):
                continue
            focusable = accessible.get_state_set().contains(Atspi.StateType.FOCUSABLE)
            if role == "image" or focusable and role not in (
                    "frame", "scroll pane", "panel", "filler"):
                self.assertRegex(accessible.get_name(), r"^(?!Gtk|Adw|_)\S",
                                 "%s\n%s" % (role, window.tree()))
        captions = window.find("text", "Captions").get_state_set()
        self.assertTrue(captions.contains(Atspi.StateType.FOCUSED))
        self.assertFalse(captions.contains(Atspi.StateType.EDITABLE))

    def test_a_daemon_that_dies_is_told_and_tried_again(self):
        window = self.open()
        window.hears()
        end_daemon()
        window.notice("The assistant ended")
        self.assertFalse(window.is_on("Listen"))
        window.press("Try again")
        window.hears()
        window.hear_one()

    def test_a_sound_server_that_dies_is_told_and_heard_again(self):
        window = self.open()
        window.hears()
        server.kill()
        window.notice("What the computer plays cannot be heard")
        server.start()
        window.hears()

    def test_who_is_not_allowed_is_told_how_to_allow_it(self):
        permit("deny")
        window = self.open()
        window.notice("lfmctl permissions allow")
        permit("allow")
        window.press("Try again")
        window.hears()

    def test_without_a_display_or_a_bus_it_says_so_once(self):
        nowhere = dict(os.environ, DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere")
        done = subprocess.run([PROGRAM], env=dict(nowhere, DISPLAY="", WAYLAND_DISPLAY=""),
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("There is no display here", done.stderr)
        process = subprocess.Popen([PROGRAM], env=nowhere, stderr=subprocess.PIPE, text=True)
        xdotool("search", "--sync", "--onlyvisible", "--pid", str(process.pid))
        process.terminate()
        self.assertNotIn("CRITICAL", process.communicate()[1])

    def test_without_a_model_that_hears_it_says_so(self):
        models("lfmd-core-q8_0.gguf")
        end_daemon()
        window = self.open()
        window.notice("lfmctl pull")
        models(*os.listdir(ROOT + "/models"))
        end_daemon()
        window.press("Try again")
        window.hears()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])
