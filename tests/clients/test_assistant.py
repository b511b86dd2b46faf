# SPDX-License-Identifier: MIT
"""lfm-assistant as people use it: a real window under Xvfb, a real daemon that the bus starts, and the
accessibility tree that a screen reader reads.

usage: /usr/bin/python3 test_assistant.py LFM_ASSISTANT DAEMON SOURCE_ROOT LFMCTL [TEST...]

SHOTS=FOLDER in the environment keeps a picture of the screen after each test.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

from desktop import (Atspi, Case, ROOT, Window, clipboard, daemon_pid, drop, end_daemon, everything, home, models,
                     paste, pixel, setUpModule, showing, tearDownModule, text_of, wait_for, xdotool)

LFMCTL = sys.argv[4]
ENTRY = "Message"


class AssistantWindow(Window):
    def __init__(self, *arguments, **environment):
        super().__init__("Assistant", *arguments, **environment)
        wait_for(lambda: self.entry.get_state_set().contains(Atspi.StateType.FOCUSED), "the focus on the entry")

    @property
    def entry(self):
        return self.find("text", ENTRY)

    def text(self):
        view = self.look("text", "Conversation")
        return text_of(view) if view else ""

    def says(self, part, text=None):
        wait_for(lambda: part in (text or self.text)(), lambda: "%r in %r" % (part, self.text()))

    def control(self, role, pattern):
        """One that is there, by what its name looks like."""
        return wait_for(lambda: next((a for a, its_role in everything(self.frame)
                                      if its_role == role and re.fullmatch(pattern, a.get_name())), None),
                        lambda: "%s %r in\n%s" % (role, pattern, self.tree()))

    def dialog(self, name):
        """The button of a dialog over the window."""
        application = self.frame.get_parent()
        for i in range(application.get_child_count()):
            child = application.get_child_at_index(i)
            if child == self.frame:
                continue
            for accessible, role in everything(child):
                if role == "push button" and name in accessible.get_name():
                    return accessible
        return None

    def tell(self, message):
        xdotool("type", message)
        wait_for(lambda: text_of(self.entry) == message, lambda: "what was typed, not %r" % text_of(self.entry))
        xdotool("key", "Return")

    def idle(self):
        row = self.entry.get_parent()
        return "Stop" not in [row.get_child_at_index(i).get_name() for i in range(row.get_child_count())
                              if showing(row.get_child_at_index(i))]

    def answer(self, message):
        """What stands below it, once it is complete."""
        def below():
            return self.text().rpartition(message + "\n")[2].strip()

        wait_for(below, lambda: "an answer in %r, %s" % (self.text(), self.tree()))
        wait_for(self.idle, "the end of the answer")
        return below()


def notes():
    """What is noted."""
    texts = []
    for path in glob.glob(home + "/home/lfmd/notes/*"):
        with open(path) as file:
            texts.append(file.read().strip())
    return sorted(texts)


class Text(Case):
    window = AssistantWindow

    def setUp(self):
        super().setUp()
        shutil.rmtree(home + "/state", ignore_errors=True)
        models(*os.listdir(ROOT + "/models"))

    def test_a_message_is_answered_and_its_cost_told(self):
        window = self.open()
        window.tell("hello")
        first = window.answer("hello")
        self.assertTrue(first)
        window.control("push button", r"lfmd-core-q8_0 · [\d.]+\sMiB · \d+ tokens/s · \d+ of \d+ tokens used")
        window.tell("what is 12 times 12")
        window.says("144")
        self.assertEqual(window.close(), 0)


    def test_every_control_has_a_name_and_the_keyboard_reaches_it(self):
        window = self.open()
        self.add_picture(window)
        for accessible, role in everything(window.frame):
            name = accessible.get_name()
            focusable = accessible.get_state_set().contains(Atspi.StateType.FOCUSABLE)
            if showing(accessible) and (
                    role in ("image", "progress bar", "level bar", "push button", "toggle button") or
                    focusable and role not in ("frame", "scroll pane", "panel", "filler")):
                self.assertRegex(name, r"^(?!Gtk|Adw|_)\S", "%s\n%s" % (role, window.tree()))
        reached = set()
        for _ in range(30):
            xdotool("key", "Tab")
            time.sleep(0.05)
            reached |= {a.get_name() for a, _ in everything(window.frame)
                        if a.get_state_set().contains(Atspi.StateType.FOCUSED)}
        for name in ("Kept conversations", "New conversation", "Add pictures", ENTRY, "Take out “rgb.png”",
                     "Talk: hold, or press and press again (Ctrl+T)"):
            self.assertIn(name, reached)

    def add_picture(self, window, source="tests/data/vision/images/rgb.png"):
        clipboard(b"file://%s/%s" % (ROOT.encode(), source.encode()), "text/uri-list")
        name = "Take out “%s”" % os.path.basename(source)
        paste(lambda: window.look("push button", name), lambda: "the picture in\n" + window.tree())

    def test_a_picture_is_asked_about_also_in_the_midst_of_a_conversation(self):
        window = self.open()
        window.tell("hello")
        window.answer("hello")
        self.add_picture(window, "models/demo.png")
        window.tell("what is in the bottom right")
        self.assertIn("heart", window.answer("what is in the bottom right"))
        self.assertIn("has no eyes", window.text())
        window.control("push button", "lfmd-see.*")

    def test_a_picture_is_dropped_and_taken_out(self):
        window = self.open()
        drop(ROOT + "/models/demo.png", lambda: window.look("push button", "Take out “demo.png”"))
        window.press("Take out “demo.png”")
        wait_for(lambda: not window.look("push button", "Take out “demo.png”"), "no picture")

    def test_a_deed_is_asked_for_done_and_undone(self):
        window = self.open()
        window.tell("remember to buy milk")
        window.find("push button", "Allow")
        self.assertEqual(notes(), [])
        xdotool("key", "alt+a")
        wait_for(notes, "the note")
        wait_for(window.idle, "the end of the turn")
        self.assertEqual(notes(), ["buy milk"])
        window.says("Noted")
        window.press("Undo")
        wait_for(lambda: not notes(), "no note")
        window.says("is removed")
        # Refused, it is not done; allowed for good, it is not asked about.
        window.tell("remember to buy bread")
        window.find("push button", "Refuse")
        xdotool("key", "Escape")
        wait_for(window.idle, "the end of the turn")
        self.assertEqual(notes(), [])
        window.tell("remember to buy salt")
        window.find("push button", "Always allow")
        xdotool("key", "alt+w")
        wait_for(notes, "the note")
        wait_for(window.idle, "the end of the turn")
        window.tell("remember to buy bread")
        wait_for(lambda: len(notes()) == 2, "the second note")

    def test_kept_conversations_are_opened_and_forgotten(self):
        window = self.open()
        window.tell("good morning")
        first = window.answer("good morning")
        self.assertEqual(window.close(), 0)
        window = self.open()
        xdotool("key", "F9")
        row = window.find("list item", "good morning")
        wait_for(lambda: row.get_state_set().contains(Atspi.StateType.FOCUSED) or
                 xdotool("key", "Tab") or row.get_state_set().contains(Atspi.StateType.FOCUSED), "the focus on it")
        xdotool("key", "Return")
        window.says("good morning\n" + first)
        xdotool("key", "F9")
        wait_for(lambda: window.entry.get_state_set().contains(Atspi.StateType.FOCUSED), "the focus on the entry")
        window.tell("hello")
        self.assertTrue(window.answer("hello"))
        xdotool("key", "F9")
        wait_for(lambda: any(a.get_state_set().contains(Atspi.StateType.FOCUSED)
                             for a, role in everything(window.frame) if role == "list item"), "the focus on the list")
        window.press("Forget “good morning”")
        dialog = wait_for(lambda: window.dialog("Forget"), "the question")
        dialog.do_action(0)
        wait_for(lambda: not window.look("list item", "good morning"), "an empty list")
        wait_for(lambda: window.text() == "", "an empty conversation")

    def test_a_daemon_that_dies_is_told_and_the_conversation_goes_on(self):
        window = self.open()
        window.tell("hello")
        window.answer("hello")
        end_daemon()
        window.says("goes on from here")
        window.tell("good morning")
        window.answer("good morning")
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.tell("good night")
        window.find("push button", "Stop")
        os.kill(pid, signal.SIGKILL)
        window.notice("The assistant ended")
        window.press("Try again")
        self.assertTrue(window.answer("good night"))
        listed = subprocess.run([LFMCTL, "sessions"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(listed, r"(?m)^[0-9a-f]{32} .* 3  lfmd-core\S* +hello$")

    def test_a_missing_model_is_told_and_found_when_it_comes(self):
        models()
        window = self.open()
        window.notice("lfmctl pull")
        window.tell("hello")
        wait_for(lambda: text_of(window.entry) == "hello", "the message, which stays")
        models(*os.listdir(ROOT + "/models"))
        window.press("Try again")
        wait_for(lambda: window.look("push button", "Send"), "a window that is ready")
        xdotool("key", "Return")
        self.assertTrue(window.answer("hello"))

    def test_it_is_dark_where_the_desktop_is_and_small_where_it_must_be(self):
        shades = []
        for scheme in "prefer-light", "prefer-dark":
            window = self.open(ADW_DEBUG_COLOR_SCHEME=scheme)
            shades.append(wait_for(lambda: sum(pixel(300, 200)), "pixels"))
            self.add_picture(window)
            window.tell("hello")
            window.answer("hello")
            self.shot(scheme)
            self.assertEqual(window.close(), 0)
        self.assertGreater(shades[0], 3 * 200)
        self.assertLess(shades[1], 3 * 80)
        window = self.open()
        window.xdotool("windowsize", "--sync", "340", "420")
        window.tell("hello")
        window.answer("hello")
        self.shot("small")
        xdotool("key", "F9")
        window.find("list item", "hello")
        self.shot("small-list")
        self.assertEqual(window.close(), 0)

    def shot(self, name):
        if "SHOTS" in os.environ:
            subprocess.run(["import", "-window", "root", "%s/%s.png" % (os.environ["SHOTS"], name)])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[5:]])
