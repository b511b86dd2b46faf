# SPDX-License-Identifier: MIT
"""lfm-ask as people use it: a real window under Xvfb, a real daemon that the bus starts, and the
accessibility tree that a screen reader reads.

usage: /usr/bin/python3 test_ask_window.py LFM_ASK DAEMON SOURCE_ROOT [TEST...]   (no bus or screen
is needed) """
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest
import zlib

import desktop
from desktop import (PROGRAM, ROOT, Atspi, Window, ask_bus, clipboard, daemon_pid, drop, end_daemon,
                     everything, home, install_service, models, paste, pixel, service, setUpModule,
                     tearDownModule, text_of, wait_for, xdotool)


class AskWindow(Window):
    def __init__(self, *files, **environment):
        super().__init__("Ask", *files, **environment)
        wait_for(lambda: self.entry.get_state_set().contains(Atspi.StateType.FOCUSED),
                 "the focus on the question")

    @property
    def entry(self):
        return self.find("text", "Question")

    def text(self):
        return text_of(self.find("text", "Conversation"))

    def typed(self):
        return text_of(self.entry)

    def ask(self, question):
        xdotool("type", question)
        wait_for(lambda: self.typed() == question,
                 lambda: "the typed question, not %r" % self.typed())
        xdotool("key", "Return")

    def busy(self):
        """The button beside the question says so."""
        row = self.entry.get_parent()
        names = [row.get_child_at_index(i).get_name() for i in range(row.get_child_count())]
        return "Stop" in names

    def idle(self):
        return not self.busy()

    def answer(self, question):
        """What stands below the question, once it is complete."""
        def below():
            return self.text().rpartition(question + "\n")[2].strip()

        wait_for(below, lambda: "an answer in %r" % self.text())
        wait_for(self.idle, "the end of the answer")
        return below()


class Case(desktop.Case):
    window = AskWindow

    def title(self, window, expected):
        wait_for(lambda: window.frame.get_name() == expected,
                 lambda: "the title, which is " + window.frame.get_name())


class Text(Case):
    """Without a picture it is a small window to talk in."""

    def setUp(self):
        super().setUp()
        models("lfmd-core-q8_0.gguf")

    def test_a_question_is_answered_in_the_text_view_and_followed_up(self):
        window = self.open()
        window.ask("hello")
        first = window.answer("hello")
        self.assertTrue(first)
        window.ask("what is the time")
        self.assertTrue(window.answer("what is the time"))
        self.assertIn(first, window.text())
        self.assertEqual(window.close(), 0)

    def test_the_answer_is_copied_and_a_new_question_forgets(self):
        window = self.open()
        window.ask("hello")
        answer = window.answer("hello")
        xdotool("key", "ctrl+shift+c")
        wait_for(lambda: subprocess.run(["xclip", "-o", "-selection", "clipboard"],
                                        capture_output=True,
                                        text=True).stdout == answer, "the answer in the clipboard")
        xdotool("key", "ctrl+n")
        wait_for(lambda: window.text() == "", "an empty conversation")

    def test_a_daemon_that_dies_is_told_and_the_next_answers(self):
        window = self.open()
        window.ask("hello")
        window.answer("hello")
        end_daemon()
        wait_for(lambda: "was ended" in window.text(), "word of the daemon's end")
        window.ask("hello again")
        self.assertTrue(window.answer("hello again"))

    def test_a_daemon_that_dies_at_work_is_told_and_asked_again(self):
        window = self.open()
        window.ask("hello")
        window.answer("hello")
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.ask("good morning")
        wait_for(window.busy, "the Stop button")
        os.kill(pid, signal.SIGKILL)
        window.notice("The assistant ended")
        self.assertTrue(window.idle())
        window.press("Try again")
        self.assertTrue(window.answer("good morning"))

    def test_escape_ends_a_question_that_nobody_answers(self):
        window = self.open()
        window.ask("hello")
        window.answer("hello")
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            window.ask("good morning")
            wait_for(window.busy, "the Stop button")
            xdotool("key", "Escape")
            xdotool("key", "Escape")
            wait_for(window.idle, "the end of the question")
            self.assertIn("Stopped.", window.text())
        finally:
            os.kill(pid, signal.SIGCONT)
        window.ask("hello again")
        self.assertTrue(window.answer("hello again"))

    def test_without_a_daemon_it_says_so_and_finds_one_that_comes(self):
        os.unlink(service)
        ask_bus("ReloadConfig")
        try:
            window = self.open()
            window.notice("not installed here")
        finally:
            install_service()
            ask_bus("ReloadConfig")
        window.press("Try again")
        window.ask("hello")
        self.assertTrue(window.answer("hello"))


class Pictures(Case):
    """What the window does with pictures before anybody looks at them."""

    def setUp(self):
        super().setUp()
        models("lfmd-core-q8_0.gguf")

    def file(self, name, source="rgb.png"):
        path = "%s/pictures/%s" % (home, name)
        os.makedirs(home + "/pictures", exist_ok=True)
        shutil.copy("%s/tests/data/vision/images/%s" % (ROOT, source), path)
        return path

    def paste(self, window, done):
        paste(done, lambda: "what was pasted in\n" + window.tree())

    def test_every_control_has_a_name_and_the_keyboard_reaches_it(self):
        window = self.open(self.file("a.png"), self.file("b.jpg", "grey.jpg"))
        window.find("push button", "a.png")
        for accessible, role in everything(window.frame):
            name = accessible.get_name()
            focusable = accessible.get_state_set().contains(Atspi.StateType.FOCUSABLE)
            if role in ("image", "progress bar") or \
                    focusable and role not in ("frame", "scroll pane", "panel", "filler"):
                self.assertRegex(name, r"^(?!Gtk|Adw|_)\S", "%s\n%s" % (role, window.tree()))
        conversation = window.find("text", "Conversation").get_state_set()
        self.assertTrue(conversation.contains(Atspi.StateType.FOCUSABLE))
        self.assertFalse(conversation.contains(Atspi.StateType.EDITABLE))

    def test_without_a_model_that_sees_it_says_how_to_get_one(self):
        window = self.open(self.file("a.png"))
        window.notice("lfmctl pull")
        window.ask("what is this")
        wait_for(lambda: window.typed() == "what is this", "the question, which stays")
        self.assertEqual(window.text(), "")

    def test_pictures_are_shown_one_by_one_and_taken_out(self):
        names = ["one.png", "--two 'q\" ü.gif", "three.tif"]
        window = self.open(*[self.file(n, s)
                             for n, s in zip(names, ["rgb.png", "rgb.gif", "rgb_plain.tif"])])
        self.title(window, "three.tif – Ask")
        window.press(names[1])
        self.title(window, names[1] + " – Ask")
        window.find("image", names[1])
        window.press("Take this picture out")
        self.title(window, "one.png – Ask")
        window.press("Take this picture out")
        self.title(window, "three.tif – Ask")
        window.press("Take this picture out")
        self.title(window, "Ask about a picture")

    def test_what_cannot_be_opened_or_shown_is_told(self):
        fifo, bomb = home + "/fifo.png", home + "/bomb.png"
        os.mkfifo(fifo)
        window = self.open(fifo)
        window.notice("“fifo.png” is not a file")
        self.assertEqual(window.close(), 0)
        window = self.open(home + "/nothing.png")
        window.notice("“nothing.png” cannot be opened")
        self.assertEqual(window.close(), 0)
        write_png(bomb, 30000, 30000)
        for path in bomb, self.file("damaged.png", "rgb.png"), ROOT + "/README.md":
            if path.endswith("damaged.png"):
                os.truncate(path, 40)
            window = self.open(path)
            window.notice("This picture cannot be shown here")
            self.assertEqual(window.close(), 0)

    def test_the_preview_is_made_in_a_sandbox(self):
        """Its answer does not fit into the pipe: while it waits, it is looked at."""
        with open(ROOT + "/models/demo.png") as picture:
            child = subprocess.Popen([PROGRAM, "--preview"], stdin=picture, stdout=subprocess.PIPE)
        header = child.stdout.read(8)
        with open("/proc/%d/status" % child.pid) as status:
            self.assertRegex(status.read(), r"NoNewPrivs:\s1\nSeccomp:\s2\n")
        width, height = struct.unpack("II", header)
        self.assertEqual(len(child.communicate()[0]), 4 * width * height)
        self.assertEqual(child.returncode, 0)

    def test_pictures_and_files_are_pasted(self):
        window = self.open()
        path = self.file("copied file.png")
        clipboard(b"file://" + path.replace(" ", "%20").encode() + b"\r\n", "text/uri-list")
        self.paste(window, lambda: window.frame.get_name() == "copied file.png – Ask")
        with open(path, "rb") as file:
            clipboard(file.read(), "image/png")
        self.paste(window, lambda: window.frame.get_name() == "Pasted picture – Ask")
        window.find("image", "Pasted picture")
        clipboard(b"some words", "UTF8_STRING")
        self.paste(window, lambda: window.typed().startswith("some words"))

    def test_a_file_is_dropped(self):
        window = self.open()
        drop(self.file("it's dropped.png"),
             lambda: window.frame.get_name() == "it's dropped.png – Ask")

    def test_it_is_dark_where_the_desktop_is_and_small_where_it_must_be(self):
        shades = []
        for scheme in "prefer-light", "prefer-dark":
            window = self.open(self.file("a.png"), ADW_DEBUG_COLOR_SCHEME=scheme)
            window.find("image", "a.png")
            shades.append(wait_for(lambda: sum(pixel(300, 500)), "pixels"))
            self.assertEqual(window.close(), 0)
        self.assertGreater(shades[0], 3 * 200)
        self.assertLess(shades[1], 3 * 80)
        window = self.open(self.file("a.png"))
        window.xdotool("windowsize", "--sync", "340", "420")
        self.assertEqual(window.close(), 0)


class Seeing(Case):
    """With the default model that sees."""

    def setUp(self):
        super().setUp()
        models(*os.listdir(ROOT + "/models"))

    def picture(self, name="tiled.png"):
        return "%s/tests/data/vision/%s" % (ROOT, name)

    def test_a_picture_is_asked_about_and_stays_for_the_next_question(self):
        window = self.open(self.picture())
        window.ask("what is this")
        self.assertTrue(window.answer("what is this"))
        self.assertTrue(window.text().startswith("tiled.png\nwhat is this\n"))
        window.ask("and its color")
        self.assertTrue(window.answer("and its color"))
        self.assertEqual(window.text().count("tiled.png"), 1)
        # The speed is known now, and is told when the picture goes along again.
        xdotool("key", "ctrl+n")
        for detail in "High detail", "Low detail":
            window.press(detail)
            window.notice(r"less than 1 s|about \d+ s")

    def test_several_pictures_are_asked_about_together(self):
        window = self.open(self.picture("single.png"), self.picture("wide.png"))
        window.ask("which is larger")
        self.assertTrue(window.answer("which is larger"))
        self.assertTrue(window.text().startswith("single.png, wide.png\n"))

    def test_a_daemon_that_dies_is_shown_the_picture_again(self):
        window = self.open(self.picture())
        window.ask("what is this")
        window.answer("what is this")
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.ask("is it red")
        wait_for(window.busy, "the Stop button")
        os.kill(pid, signal.SIGKILL)
        window.notice("The assistant ended")
        window.press("Try again")
        self.assertTrue(window.answer("is it red"))
        self.assertEqual(window.text().count("tiled.png"), 2)

    def large(self):
        """Pictures that take a while to look at."""
        paths = ["%s/large%d.png" % (home, i) for i in range(16)]
        for i, path in enumerate(paths):
            write_png(path, 1600, 1400 + i)
        return paths

    def test_looking_shows_its_progress_and_may_die(self):
        window = self.open(*self.large())
        window.press("High detail")
        window.notice("part")  # what it will take
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.ask("what is this")
        wait_for(window.busy, "the Stop button")

        def looking():
            """Let the daemon work for a moment, then look at the window in peace."""
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
            os.kill(pid, signal.SIGSTOP)
            bar = window.look("progress bar", "Progress")
            return bar and Atspi.Value.get_current_value(bar) > 0

        wait_for(looking, "progress")
        os.kill(pid, signal.SIGKILL)
        window.notice("ended in the middle of the answer")
        self.assertTrue(window.idle())

    def test_looking_is_stopped(self):
        window = self.open(*self.large())
        window.press("High detail")
        window.notice("part")  # what it will take
        pid = daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.ask("what is this")
        wait_for(window.busy, "the Stop button")
        xdotool("key", "Escape")
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: "Stopped." in window.text(), "the end")
        self.assertEqual(window.answer("what is this"), "Stopped.")

    def test_a_model_that_comes_to_see_answers_what_was_asked(self):
        models("lfmd-core-q8_0.gguf")
        window = self.open(self.picture())
        window.notice("lfmctl pull")
        window.ask("what is this")
        models(*os.listdir(ROOT + "/models"))
        window.press("Try again")
        self.assertTrue(window.answer("what is this"))

    def test_a_picture_that_is_none_is_refused_and_another_one_asked_about(self):
        window = self.open(ROOT + "/README.md")
        window.ask("what is this")
        window.notice("Picture 1: This is no picture")
        wait_for(window.idle, "the end of the turn")
        window.press("Take this picture out")
        self.title(window, "Ask about a picture")
        window.ask("hello")
        self.assertTrue(window.answer("hello"))


def write_png(path, width, height):
    """A black picture of one bit a pixel."""
    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data +
                struct.pack(">I", zlib.crc32(kind + data)))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" +
                   chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(bytes((width // 8 + 1) * height))) +
                   chunk(b"IEND", b""))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])
