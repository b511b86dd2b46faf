# SPDX-License-Identifier: MIT
"""lfm-describe as people use it: a real window under Xvfb, a real daemon, a real speech-dispatcher
with a module that writes down what it is to say, and a program with a picture under the focus. The
Screenshot portal is played, because those that exist need a desktop's compositor.

usage: /usr/bin/python3 test_describe.py LFM_DESCRIBE DAEMON SOURCE_ROOT [TEST...]   (no bus or
screen is needed) """
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

if sys.argv[1] == "picture":
    # A program with a picture that has the focus, some way from the window's corner.
    import gi
    gi.require_version("Gtk", "4.0")
    from gi.repository import Gtk

    def show(application):
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, margin_start=70, margin_top=50)
        picture = Gtk.Picture.new_for_filename(sys.argv[2])
        picture.set_focusable(True)
        picture.set_can_shrink(False)
        picture.set_halign(Gtk.Align.START)
        picture.set_valign(Gtk.Align.START)
        picture.update_property([Gtk.AccessibleProperty.LABEL], ["holiday"])
        box.append(Gtk.Button(label="something else"))
        box.append(picture)
        window = Gtk.ApplicationWindow(application=application, title="viewer", child=box,
                                       default_width=500, default_height=500)
        window.present()
        if len(sys.argv) > 3:
            picture.grab_focus()
        else:
            window.props.child.get_first_child().grab_focus()

    program = Gtk.Application()
    program.connect("activate", show)
    sys.exit(program.run([]))

if sys.argv[1] == "portal":
    # A portal that answers with this response and a copy of this picture.
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    class Request(dbus.service.Object):
        @dbus.service.signal("org.freedesktop.portal.Request", signature="ua{sv}")
        def Response(self, response, results):
            pass

    class Portal(dbus.service.Object):
        @dbus.service.method("org.freedesktop.portal.Screenshot", in_signature="sa{sv}",
                             out_signature="o", sender_keyword="sender")
        def Screenshot(self, window, options, sender):
            print(json.dumps({"window": window, "options": sorted(options)}), flush=True)
            path = "%s/request/%s/%s" % (self._object_path, sender[1:].replace(".", "_"),
                                         options["handle_token"])
            request, response = Request(self._connection, path), int(sys.argv[2])
            if response == 0:
                shutil.copy(sys.argv[3], sys.argv[4])
            results = ({"uri": "file://" + sys.argv[4]} if response == 0 else
                       dbus.Dictionary(signature="sv"))
            GLib.idle_add(lambda: request.Response(response, results))
            return dbus.ObjectPath(path)

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    connection = dbus.SessionBus()
    name = dbus.service.BusName("org.freedesktop.portal.Desktop", connection)
    portal = Portal(connection, "/org/freedesktop/portal/desktop")
    print("ready", flush=True)
    GLib.MainLoop().run()

if sys.argv[1] == "module":
    # speech-dispatcher's output module: writes down what it is to say, and in which language.
    def answer(*lines):
        print("\n".join(lines), flush=True)

    def body():
        return iter(lambda: sys.stdin.readline().rstrip("\n"), ".")

    language = ""
    for line in sys.stdin:
        command = line.split()[0]
        if command == "INIT":
            answer("299-ready", "299 OK LOADED SUCCESSFULLY")
        elif command in ("AUDIO", "LOGLEVEL"):
            answer("207 OK RECEIVING AUDIO SETTINGS")
            list(body())
            answer("203 OK AUDIO INITIALIZED")
        elif command == "LIST":
            answer("200-one\ten\tnone", "200 OK VOICE LIST SENT")
        elif command == "SET":
            answer("203 OK RECEIVING SETTINGS")
            language = dict(setting.split("=", 1) for setting in body()).get("language", language)
            answer("203 OK SETTINGS RECEIVED")
        elif command in ("SPEAK", "CHAR", "KEY"):
            answer("202 OK RECEIVING MESSAGE")
            words = html.unescape(re.sub("<[^>]*>", "", "\n".join(body())))
            with open(sys.argv[2], "a") as file:
                file.write("%s %s\n" % (language, words.strip()))
            answer("200 OK SPEAKING", "701 BEGIN", "702 END")
        elif command == "QUIT":
            answer("210 OK QUIT")
            break
    sys.exit(0)

import desktop  # noqa: E402
from desktop import (PATIENCE, PROGRAM, ROOT, Atspi, ask_bus, clipboard, end_daemon,  # noqa: E402
                     everything, home, models, start, text_of, wait_for, write, xdotool)

DEMO = ROOT + "/models/demo.png"
HEART = ROOT + "/models/eval/pictures/count-0.png"
SAID = home + "/said"


def setUpModule():
    desktop.setUpModule()
    models(*os.listdir(ROOT + "/models"))
    # The machine's own portal, if there is one, knows no way to see this screen.
    write(home + "/data/dbus-1/services/org.freedesktop.portal.Desktop.service",
          "[D-BUS Service]\nName=org.freedesktop.portal.Desktop\nExec=/bin/false\n")
    ask_bus("ReloadConfig")
    folder = home + "/speech"
    module = folder + "/module"
    write(module,
          "#!/bin/sh\nexec /usr/bin/python3 %s module %s\n" % (os.path.abspath(__file__), SAID))
    os.chmod(module, 0o755)
    write(folder + "/speechd.conf",
          'DefaultModule file\nAddModule "file" "%s" ""\nDefaultLanguage "de"\nLogLevel 0\n'
          % module)
    start("speech-dispatcher", "--run-single", "--timeout", "0", "--log-dir", home,
          "--config-dir", folder, stdout=subprocess.DEVNULL)
    socket = os.environ["XDG_RUNTIME_DIR"] + "/speech-dispatcher/speechd.sock"
    wait_for(lambda: os.path.exists(socket), "speech-dispatcher")


tearDownModule = desktop.tearDownModule


def said():
    if not os.path.exists(SAID):
        return ""
    with open(SAID) as file:
        return file.read()


def forget_said():
    if os.path.exists(SAID):
        os.unlink(SAID)


def print_verb(*arguments, status=0, **environment):
    done = subprocess.run((PROGRAM, "--print") + arguments, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, **environment), timeout=PATIENCE)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def viewer(picture, focus=True):
    """A window of another program, with the focus."""
    process = start("/usr/bin/python3", os.path.abspath(__file__), "picture", picture,
                    *(["focus"] if focus else []))
    xdotool("search", "--sync", "--onlyvisible", "--all", "--pid", str(process.pid), "--name",
            "viewer", "windowmove", "--sync", "230", "90", "windowfocus", "--sync")

    def has_focus():
        for i in range(desktop.desktop.get_child_count()):
            program = desktop.desktop.get_child_at_index(i)
            if program and program.get_process_id() == process.pid:
                program.set_cache_mask(Atspi.Cache.NONE)
                return any(a.get_state_set().contains(Atspi.StateType.FOCUSED)
                           for a, _ in everything(program))
        return False

    wait_for(has_focus, "the viewer's focus")
    return process


class Portal:
    def __init__(self, response, picture=DEMO):
        self.shot = home + "/shot.png"
        self.process = start("/usr/bin/python3", os.path.abspath(__file__), "portal", str(response),
                             picture, self.shot, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def asked(self):
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        desktop.started.remove(self.process)


class Terminal(unittest.TestCase):
    def setUp(self):
        forget_said()
        self.programs = []

    def tearDown(self):
        for process in self.programs:
            process.terminate()
            process.wait()
            desktop.started.remove(process)
        end_daemon()

    def view(self, *arguments, **more):
        self.programs.append(viewer(*arguments, **more))

    def test_a_file_is_described_shortly_and_read_aloud_in_the_answers_language(self):
        short = print_verb(DEMO)
        self.assertEqual(short.count("\n"), 1)
        wait_for(lambda: said() == "en " + short, lambda: "what was said: " + said())

    def test_more_is_told_when_it_is_asked_for(self):
        out = print_verb("--more", "--silent", DEMO)
        self.assertIn("purple heart", out)
        self.assertIn("words", out)
        self.assertEqual(print_verb("--more", "--silent", DEMO), out)  # from the daemon's memory
        self.assertEqual(out.split("\n")[0] + "\n", print_verb("--silent", DEMO))
        self.assertEqual(said(), "")

    def test_what_is_no_picture_is_told(self):
        self.assertIn("no picture", print_verb(ROOT + "/README.md", status=1))
        wait_for(lambda: "no picture" in said(), "what was said")
        self.assertIn("cannot be opened", print_verb("/nowhere.png", "--silent", status=1))
        self.assertIn("One thing", print_verb("--screen", DEMO, status=2))
        self.assertIn("One thing", print_verb(DEMO, HEART, status=2))
        self.assertIn("clipboard", print_verb("--clipboard", status=2))
        self.assertIn("nobody", print_verb("--model", "nobody", "--silent", DEMO, status=1))

    def test_a_model_that_is_not_sure_says_so(self):
        path = home + "/night.ppm"
        with open(path, "wb") as file:
            file.write(b"P6 300 200 255\n" + bytes(300 * 200 * 3))
        out = print_verb("--silent", path)
        self.assertTrue(out.endswith("\nThe model is not sure of this.\n"), out)
        self.assertEqual(print_verb("--silent", path), out)  # from the daemon's memory
        self.assertEqual(print_verb("--silent", HEART).count("\n"), 1)

    def test_the_picture_under_the_focus_is_described_and_nothing_around_it(self):
        expected = print_verb("--silent", HEART)
        self.view(HEART)
        self.assertEqual(print_verb("--silent"), expected)
        self.assertNotEqual(print_verb("--silent", "--screen"), expected)

    def test_a_focus_that_nobody_has_is_told(self):
        self.assertIn("Nothing has the focus", print_verb("--silent", "--focus", status=1))

    def test_the_portal_is_asked_for_the_screen(self):
        portal = Portal(0, HEART)
        try:
            self.assertEqual(print_verb("--silent", "--screen"), print_verb("--silent", HEART))
            self.assertEqual(portal.asked(),
                             {"window": "", "options": ["handle_token", "interactive"]})
            self.assertFalse(os.path.exists(portal.shot))  # it was for this alone
        finally:
            portal.stop()

    def test_a_user_who_says_no_is_obeyed(self):
        for response, words in (1, "you said no"), (2, "could not take a picture"):
            portal = Portal(response)
            try:
                self.assertIn(words, print_verb("--silent", "--screen", status=1))
            finally:
                portal.stop()

    def test_where_the_place_on_the_screen_is_unknown_all_of_it_is_described(self):
        """As on Wayland, where the portal alone sees the screen."""
        self.view(HEART)
        portal = Portal(0, DEMO)
        try:
            out = print_verb("--silent", WAYLAND_DISPLAY="none")
            self.assertIn("whole screen", out)
            self.assertTrue(out.endswith(print_verb("--silent", DEMO)))
        finally:
            portal.stop()

    def test_a_screen_that_nobody_may_see_is_told(self):
        self.assertIn("no program see the screen",
                      print_verb("--silent", "--screen", status=1, WAYLAND_DISPLAY="none"))

    def test_without_speech_it_is_written_all_the_same(self):
        out = print_verb(DEMO, SPEECHD_ADDRESS="unix_socket:/nowhere", SPEECHD_NO_AUTOSPAWN="1")
        self.assertIn("speech-dispatcher does not answer", out)
        self.assertIn(print_verb("--silent", DEMO), out)


class Window(desktop.Window):
    def __init__(self, *arguments, **environment):
        super().__init__("description", *arguments, **environment)

    def text(self):
        return text_of(self.find("text", "Description"))

    def has(self, part):
        wait_for(lambda: part in self.text(), lambda: "%r in %r" % (part, self.text()))

    def ask(self, words):
        xdotool("type", words)
        xdotool("key", "Return")


class Shown(desktop.Case):
    window = Window

    def setUp(self):
        super().setUp()
        forget_said()

    def heard(self, part):
        wait_for(lambda: part in said(), lambda: "%r in what was said: %s" % (part, said()))

    def test_short_first_then_more_then_questions(self):
        window = self.open(DEMO)
        short = print_verb("--silent", DEMO).strip()
        window.has(short)
        self.heard("en " + short)
        self.assertNotIn("purple heart", window.text())
        xdotool("key", "ctrl+m")
        window.has("purple heart")
        self.heard("purple heart")
        window.ask("What is in the top left?")
        window.has("What is in the top left?")
        wait_for(lambda: "white star" in window.text().split("What is in the top left?")[1],
                 "the answer")
        wait_for(lambda: said().count("white star") == 2, lambda: said())
        forget_said()
        xdotool("key", "ctrl+r")
        self.heard("white star")
        self.assertEqual(window.close(), 0)

    def test_every_control_has_a_name_and_the_focus_is_on_the_question(self):
        window = self.open(DEMO)
        window.has(".")
        window.find("image", "demo.png")
        for accessible, role in everything(window.frame):
            focusable = accessible.get_state_set().contains(Atspi.StateType.FOCUSABLE)
            if role in ("image", "progress bar") or \
                    focusable and role not in ("frame", "scroll pane", "panel", "filler"):
                self.assertRegex(accessible.get_name(), r"^(?!Gtk|Adw|_)\S",
                                 "%s\n%s" % (role, window.tree()))
        for name in "More", "Say again", "Stop", "Ask":
            window.find("push button", name)

    def test_another_start_describes_the_next_picture_in_the_same_window(self):
        window = self.open("--silent", DEMO)
        window.has(print_verb("--silent", DEMO).strip())
        again = start(PROGRAM, HEART)
        heart = print_verb("--silent", HEART).strip()
        window.has(heart)
        self.assertEqual(window.text().strip(), heart)
        self.assertEqual(again.wait(PATIENCE), 0)
        desktop.started.remove(again)
        self.assertEqual(said(), "")

    def test_the_clipboards_picture_is_described(self):
        with open(HEART, "rb") as file:
            clipboard(file.read(), "image/png")
        window = self.open("--clipboard")
        window.has(print_verb("--silent", HEART).strip())
        self.assertEqual(window.close(), 0)
        forget_said()
        clipboard(b"words", "UTF8_STRING")
        window = self.open("--clipboard")
        window.notice("no picture")
        self.heard("no picture")

    def test_the_focus_of_another_program_is_described_also_when_the_window_covers_it(self):
        program = viewer(HEART)
        window = self.open()
        heart = print_verb("--silent", HEART).strip()
        window.has(heart)
        window.find("image", "holiday")
        program.kill()
        program.wait()
        desktop.started.remove(program)
        again = start(PROGRAM, "--screen")
        self.assertEqual(again.wait(PATIENCE), 0)
        desktop.started.remove(again)
        # It was hidden meanwhile, and is another one for who watches.
        def is_screen():
            window.frame, window.known = window.find_frame(), {}
            return window.look("image", "Picture of the screen")

        wait_for(is_screen, "the screen's picture")

    def test_a_daemon_that_dies_is_told_and_the_next_question_answered(self):
        window = self.open(DEMO)
        window.has(print_verb("--silent", DEMO).strip())
        window.ask("What is in the top left?")
        window.has("white star")
        pid = desktop.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        window.ask("What is in the bottom right?")
        window.has("bottom right?")
        os.kill(pid, signal.SIGKILL)
        window.notice("The assistant ended")
        self.heard("The assistant ended")
        window.ask("What is in the top right?")
        window.has("red circle")

    def test_what_cannot_be_described_is_told(self):
        window = self.open(ROOT + "/README.md")
        window.notice("This is no picture")
        self.heard("This is no picture")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])
