# SPDX-License-Identifier: MIT
"""lfm-assistant as people use it: a real window under Xvfb, a real daemon that the bus starts, and
the accessibility tree that a screen reader reads.

usage: /usr/bin/python3 test_assistant.py LFM_ASSISTANT DAEMON SOURCE_ROOT LFMCTL [TEST...]

SHOTS=FOLDER in the environment keeps a picture of the screen after each test.
"""
import glob
import os
import re
import signal
import subprocess
import sys
import time
import unittest

LFMCTL = sys.argv[4]
PORTAL = "/usr/libexec/xdg-desktop-portal"
IMPLEMENTATION = "org.freedesktop.impl.portal.GlobalShortcuts"

if __name__ == "__main__" and sys.argv[5:] == ["desktop"]:
    # What a desktop puts behind its portal: gives every key that is asked for, and presses it as it
    # is told.
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    class Session(dbus.service.Object):
        @dbus.service.method("org.freedesktop.impl.portal.Session")
        def Close(self):
            self.remove_from_connection()

    class Desktop(dbus.service.Object):
        session = None

        @dbus.service.method(IMPLEMENTATION, in_signature="oosa{sv}", out_signature="ua{sv}")
        def CreateSession(self, handle, session, app, options):
            self.session = session
            Session(bus, session)
            return 0, dbus.Dictionary({}, signature="sv")

        @dbus.service.method(IMPLEMENTATION, in_signature="ooa(sa{sv})sa{sv}",
                             out_signature="ua{sv}")
        def BindShortcuts(self, handle, session, shortcuts, parent, options):
            for name, properties in shortcuts:
                print("bind %s: %s" % (name, properties["description"]), flush=True)
                properties["trigger_description"] = "Super+Space"
            return 0, {"shortcuts": shortcuts}

        @dbus.service.signal(IMPLEMENTATION, signature="osta{sv}")
        def Activated(self, session, name, time, options):
            pass

        @dbus.service.signal(IMPLEMENTATION, signature="osta{sv}")
        def Deactivated(self, session, name, time, options):
            pass

    def told(source, condition):
        line = sys.stdin.readline().strip()
        if not line:
            loop.quit()
            return False
        getattr(desktop, line)(desktop.session, "talk", dbus.UInt64(0),
                               dbus.Dictionary({}, signature="sv"))
        return True

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    desktop = Desktop(bus, "/org/freedesktop/portal/desktop")
    name = dbus.service.BusName("org.freedesktop.impl.portal.desktop.test", bus)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, told)
    print("ready", flush=True)
    loop.run()
    sys.exit(0)

import sound  # noqa: E402
from desktop import (PROGRAM, ROOT, Atspi, Case, GLib, Window, ask_bus, clipboard,  # noqa: E402
                     daemon_pid, drop, end_daemon, everything, home, models, paste, pixel,
                     setUpModule, showing, start, tearDownModule, text_of, wait_for, write,
                     xdotool)

ENTRY = "Message"


def install_portal(command):
    write(home + "/data/dbus-1/services/org.freedesktop.portal.Desktop.service",
          "[D-BUS Service]\nName=org.freedesktop.portal.Desktop\nExec=%s\n" % command)
    ask_bus("ReloadConfig")


def end(name):
    """The program that has a name on the bus."""
    try:
        os.kill(ask_bus("GetConnectionUnixProcessID", name)[0], signal.SIGKILL)
    except GLib.Error:
        return
    wait_for(lambda: not ask_bus("NameHasOwner", name)[0], "the end of " + name)


def permit(decision):
    subprocess.run([LFMCTL, "permissions", decision, PROGRAM], check=True)


def shot(name):
    if "SHOTS" in os.environ:
        subprocess.run(["import", "-window", "root", "%s/%s.png" % (os.environ["SHOTS"], name)])


class AssistantWindow(Window):
    def __init__(self, *arguments, **environment):
        super().__init__("Assistant", *arguments, **environment)
        wait_for(lambda: self.entry.get_state_set().contains(Atspi.StateType.FOCUSED),
                 "the focus on the entry")

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
                                      if its_role == role and re.fullmatch(pattern, a.get_name())),
                                     None),
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
        wait_for(lambda: text_of(self.entry) == message,
                 lambda: "what was typed, not %r" % text_of(self.entry))
        xdotool("key", "Return")

    def idle(self):
        row = self.entry.get_parent()
        return "Stop" not in [row.get_child_at_index(i).get_name()
                              for i in range(row.get_child_count())
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
        models(*os.listdir(ROOT + "/models"))

    def test_a_message_is_answered_and_its_cost_told(self):
        window = self.open()
        window.tell("hello")
        first = window.answer("hello")
        self.assertTrue(first)
        window.control("push button",
                       r"lfmd-core-q8_0 · [\d.]+\sMiB · \d+ tokens/s · \d+ of \d+ tokens used")
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
                    role in ("image", "progress bar", "level bar", "push button",
                             "toggle button") or
                    focusable and role not in ("frame", "scroll pane", "panel", "filler")):
                self.assertRegex(name, r"^(?!Gtk|Adw|_)\S", "%s\n%s" % (role, window.tree()))
        reached = set()
        for _ in range(30):
            xdotool("key", "Tab")
            time.sleep(0.05)
            reached |= {a.get_name() for a, _ in everything(window.frame)
                        if a.get_state_set().contains(Atspi.StateType.FOCUSED)}
        for name in ("Kept conversations", "New conversation", "Add pictures", ENTRY,
                     "Take out “rgb.png”", "Talk: hold, or press and press again (Ctrl+T)"):
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

    def test_a_closed_window_stays_for_its_timers(self):
        window = self.open()
        window.tell("set a timer for ten minutes")
        window.find("push button", "Allow")
        xdotool("key", "alt+a")
        window.find("push button", "Undo")
        wait_for(window.idle, "the end of the turn")
        xdotool("key", "ctrl+w")
        wait_for(lambda: not showing(window.frame), "a window that is not seen")
        self.assertIsNone(window.process.poll())
        subprocess.run([PROGRAM], check=True)  # the one that is there is shown
        window.xdotool("windowfocus")
        window.frame, window.known = wait_for(window.find_frame, "the window"), {}
        window.press("Undo")
        window.says("is cancelled")
        window.xdotool("windowfocus")
        self.assertEqual(window.close(), 0)

    def test_kept_conversations_are_opened_and_forgotten(self):
        window = self.open()
        window.tell("good morning")
        first = window.answer("good morning")
        self.assertEqual(window.close(), 0)
        window = self.open()
        xdotool("key", "F9")
        row = window.find("list item", "good morning")
        wait_for(lambda: row.get_state_set().contains(Atspi.StateType.FOCUSED) or
                 xdotool("key", "Tab") or row.get_state_set().contains(Atspi.StateType.FOCUSED),
                 "the focus on it")
        xdotool("key", "Return")
        window.says("good morning\n" + first)
        xdotool("key", "F9")
        wait_for(lambda: window.entry.get_state_set().contains(Atspi.StateType.FOCUSED),
                 "the focus on the entry")
        window.tell("hello")
        self.assertTrue(window.answer("hello"))
        xdotool("key", "F9")
        wait_for(lambda: any(a.get_state_set().contains(Atspi.StateType.FOCUSED)
                             for a, role in everything(window.frame) if role == "list item"),
                 "the focus on the list")
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
        listed = subprocess.run([LFMCTL, "sessions"], check=True, capture_output=True,
                                text=True).stdout
        self.assertRegex(listed, r"(?m)^[0-9a-f]{32} .* 3  lfmd-core\S* +hello$")

    def test_a_missing_model_is_told_and_found_when_it_comes(self):
        models()
        window = self.open()
        window.notice("lfmctl pull")
        window.tell("hello")
        wait_for(lambda: text_of(window.entry) == "hello", "the message, which stays")
        models(*os.listdir(ROOT + "/models"))
        window.press("Try again")
        self.assertTrue(window.answer("hello"))

    def test_it_is_dark_where_the_desktop_is_and_small_where_it_must_be(self):
        shades = []
        for scheme in "prefer-light", "prefer-dark":
            window = self.open(ADW_DEBUG_COLOR_SCHEME=scheme)
            shades.append(wait_for(lambda: sum(pixel(300, 200)), "pixels"))
            self.add_picture(window)
            window.tell("hello")
            window.answer("hello")
            shot(scheme)
            self.assertEqual(window.close(), 0)
        self.assertGreater(shades[0], 3 * 200)
        self.assertLess(shades[1], 3 * 80)
        window = self.open()
        window.xdotool("windowsize", "--sync", "340", "420")
        window.tell("hello")
        window.answer("hello")
        shot("small")
        xdotool("key", "F9")
        window.find("list item", "hello")
        shot("small-list")
        self.assertEqual(window.close(), 0)


class Voice(Case):
    """Spoken turns through a real sound server: what is played to "room" is what the microphone
    hears."""
    window = AssistantWindow
    question = ROOT + "/models/demo.wav"

    @classmethod
    def setUpClass(cls):
        cls.server = sound.Server(home)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        super().setUp()
        models(*os.listdir(ROOT + "/models"))
        permit("allow")

    def light(self, window, on):
        window.find("image", "The microphone is " + ("on" if on else "off"))

    def test_a_spoken_question_is_answered_and_a_typed_one_goes_on(self):
        window = self.open()
        self.light(window, False)
        xdotool("key", "ctrl+t")
        self.light(window, True)
        window.notice("I hear you")
        self.server.play(self.question)
        shot("hearing")
        xdotool("key", "ctrl+t")
        window.says("\n")
        self.light(window, False)
        text = window.text().split("\n")
        # What is understood is the model's business, and better on a machine that is not busy.
        self.assertTrue(text[0] and text[0] != "…" and text[1], text)
        window.control("push button",
                       r"lfmd-talk-q8_0 · [\d.]+\sMiB · spoke after \d+ ms · "
                       r"\d+ of \d+ tokens used")
        window.tell("hello")
        self.assertTrue(window.answer("hello"))
        window.control("push button", "lfmd-core.*")

    def test_the_button_talks_while_it_is_held(self):
        window = self.open()
        window.xdotool("windowmove", "--sync", "0", "0", "windowsize", "--sync", "640", "720")
        xdotool("mousemove", "34", "664", "mousedown", "1")
        window.notice("I hear you")
        self.server.play(self.question)
        self.light(window, True)
        xdotool("mouseup", "1")
        wait_for(lambda: window.text().count("\n") >= 1 and "…" not in window.text(),
                 lambda: "a turn in %r" % window.text())
        self.light(window, False)

    def test_a_spoken_command_is_done_after_asking_and_the_result_spoken(self):
        def volume():
            return re.search(r"(\d+)%", self.server.control("get-sink-volume", "spk")).group(1)

        window = self.open()
        xdotool("key", "ctrl+t")
        self.light(window, True)
        self.server.play(ROOT + "/models/eval/speech/0.wav")
        xdotool("key", "ctrl+t")
        window.find("push button", "Allow")
        shot("spoken-question")
        self.assertEqual(volume(), "100")
        xdotool("key", "alt+a")
        # How many percent it has understood is the model's business.
        told = r"The volume is (\d+) percent now; it was 100\."
        wait_for(lambda: re.search(told, window.text()),
                 lambda: "what was done in %r" % window.text())
        self.assertEqual(volume(), re.search(told, window.text()).group(1))
        self.light(window, False)
        self.assertRegex(window.text(), r"^.+\n" + told + r"\n.+$")
        window.press("Undo")
        wait_for(lambda: volume() == "100", "the volume as it was")

    def test_the_result_of_a_command_is_spoken_although_more_was_said(self):
        window = self.open()
        xdotool("key", "ctrl+shift+m")
        window.find("push button", "Open the microphone (Ctrl+T)")
        xdotool("key", "ctrl+t")
        window.notice("^Speak$")
        self.server.play(ROOT + "/models/eval/speech/0.wav")
        window.find("push button", "Allow")
        n = window.text().rstrip("\n…").count("\n")
        self.server.play(self.question)
        wait_for(lambda: window.text().count("\n") >= n + 2 and "…" not in window.text(),
                 lambda: "another turn in %r" % window.text())
        xdotool("key", "alt+a")
        self.addCleanup(self.server.control, "set-sink-volume", "spk", "100%")
        told = r"The volume is \d+ percent now; it was 100\.\n.+"
        wait_for(lambda: re.search(told, window.text()),
                 lambda: "an answer to what was done in %r" % window.text())

    def test_an_open_microphone_hears_until_it_is_closed(self):
        window = self.open()
        xdotool("key", "ctrl+shift+m")
        window.find("push button", "Open the microphone (Ctrl+T)")
        xdotool("key", "ctrl+t")
        window.notice("^Speak$")
        for turn in 1, 2:
            self.server.play(self.question)
            wait_for(lambda: "…" not in window.text() and window.text().count("\n") >= 2 * turn - 1,
                     lambda: "turn %d in %r" % (turn, window.text()))
            window.notice("^Speak$")
        self.light(window, True)
        window.press("Close the microphone (Ctrl+T)")
        self.light(window, False)

    def test_a_microphone_that_is_not_allowed_is_told(self):
        permit("deny")
        window = self.open()
        xdotool("key", "ctrl+t")
        window.notice("may not use the microphone")
        self.light(window, False)
        permit("allow")
        xdotool("key", "ctrl+t")
        self.light(window, True)
        xdotool("key", "Escape")
        self.light(window, False)

    def test_a_daemon_that_dies_while_somebody_talks_is_told(self):
        window = self.open()
        xdotool("key", "ctrl+t")
        self.light(window, True)
        end_daemon()
        window.notice("The assistant ended while you talked")
        self.light(window, False)
        xdotool("key", "ctrl+t")
        self.light(window, True)

    def test_a_key_of_the_desktop_toggles_it_and_starts_it(self):
        write(home + "/data/dbus-1/services/org.lfmd.Assistant.service",
              "[D-BUS Service]\nName=org.lfmd.Assistant\nExec=%s --gapplication-service\n" %
              PROGRAM)
        ask_bus("ReloadConfig")
        window = self.open()
        subprocess.run([LFMCTL, "toggle"], check=True)
        self.light(window, True)
        subprocess.run([LFMCTL, "toggle"], check=True)
        self.light(window, False)
        self.assertEqual(window.close(), 0)
        subprocess.run([LFMCTL, "toggle"], check=True)
        pid = ask_bus("GetConnectionUnixProcessID", "org.lfmd.Assistant")[0]
        try:
            xdotool("search", "--sync", "--onlyvisible", "--pid", str(pid), "--name", "Assistant")
        finally:
            end("org.lfmd.Assistant")


@unittest.skipUnless(os.path.exists(PORTAL), "needs xdg-desktop-portal")
class Shortcut(Case):
    """The desktop's portal is the real one; what a desktop puts behind it, a program of the test's
    own."""
    window = AssistantWindow

    def setUp(self):
        super().setUp()
        models(*os.listdir(ROOT + "/models"))
        write(home + "/portals/test.portal",
              "[portal]\nDBusName=org.freedesktop.impl.portal.desktop.test\n"
              "Interfaces=%s\nUseIn=test\n" % IMPLEMENTATION)
        install_portal(
            "/usr/bin/env XDG_CURRENT_DESKTOP=test XDG_DESKTOP_PORTAL_DIR=%s/portals %s" %
            (home, PORTAL))

    def tearDown(self):
        super().tearDown()
        install_portal("/bin/false")
        end("org.freedesktop.portal.Desktop")

    def test_a_key_of_the_portal_talks_while_it_is_held(self):
        permit("deny")  # what a key does is seen by that
        desktop = start(sys.executable, os.path.abspath(__file__), *sys.argv[1:5], "desktop",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.assertEqual(desktop.stdout.readline(), "ready\n")
        window = self.open()
        wait_for(lambda: ask_bus("NameHasOwner", "org.freedesktop.portal.Desktop")[0], "the portal")
        xdotool("key", "F10")
        shot("menu")
        xdotool("key", "d")
        self.assertEqual(desktop.stdout.readline(), "bind talk: Talk to the assistant\n")
        window.says("Talk from everywhere with Super+Space.")
        desktop.stdin.write("Activated\n")
        window.notice("may not use the microphone")
        desktop.stdin.write("Deactivated\n")
        self.assertEqual(window.close(), 0)
        desktop.stdin.close()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[5:]])
