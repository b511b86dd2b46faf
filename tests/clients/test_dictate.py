# SPDX-License-Identifier: MIT
"""lfmctl dictate as people use it: recordings of the repository are played by a real sound server
and written down by the real daemon, into standard output, the clipboard and windows of a real X
server; the portal of a Wayland desktop, which cannot be had here, is a program of the test's own.

usage: /usr/bin/python3 test_dictate.py LFMCTL DAEMON SOURCE_ROOT [TEST...]   (no bus, screen or
sound is needed) """
import json
import os
import pty
import signal
import subprocess
import sys
import unittest

if __name__ == "__main__" and sys.argv[1:2] == ["portal"]:
    # org.freedesktop.portal.RemoteDesktop: says yes or no, and prints the characters of keys.
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    REMOTE = "org.freedesktop.portal.RemoteDesktop"

    class Request(dbus.service.Object):
        @dbus.service.signal("org.freedesktop.portal.Request", signature="ua{sv}")
        def Response(self, code, results):
            pass

    class Portal(dbus.service.Object):
        def request(self, sender, options, code, **results):
            path = "/org/freedesktop/portal/desktop/request/%s/%s" % (
                sender[1:].replace(".", "_"), options["handle_token"])
            request = Request(bus, path)
            # before the call is answered
            request.Response(code, dbus.Dictionary(results, signature="sv"))
            request.remove_from_connection()
            return path

        @dbus.service.method(REMOTE, in_signature="a{sv}", out_signature="o",
                             sender_keyword="sender")
        def CreateSession(self, options, sender):
            return self.request(sender, options, 0,
                                session_handle="/org/freedesktop/portal/desktop/session/one")

        @dbus.service.method(REMOTE, in_signature="oa{sv}", out_signature="o",
                             sender_keyword="sender")
        def SelectDevices(self, session, options, sender):
            return self.request(sender, options, 0 if options["types"] == 1 else 2)

        @dbus.service.method(REMOTE, in_signature="osa{sv}", out_signature="o",
                             sender_keyword="sender")
        def Start(self, session, parent, options, sender):
            return self.request(sender, options, int(sys.argv[2]))

        @dbus.service.method(REMOTE, in_signature="oa{sv}iu")
        def NotifyKeyboardKeysym(self, session, options, keysym, state):
            if state:
                print(chr(keysym), end="", flush=True)

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    portal = Portal(bus, "/org/freedesktop/portal/desktop")
    # A real one may have been started by a window.
    name = dbus.service.BusName("org.freedesktop.portal.Desktop", bus, replace_existing=True,
                                do_not_queue=True)
    print("ready", flush=True)
    GLib.MainLoop().run()

from desktop import (PROGRAM, ROOT, end_daemon, home, models,  # noqa: E402
                     setUpModule as set_up_desktop, start,
                     tearDownModule as tear_down_desktop, wait_for, xdotool)
from sound import Server  # noqa: E402

ENTRY = """
import gi
gi.require_version("Gtk", "4.0")
from gi.repository import Gtk

def activate(application):
    entry = Gtk.Entry()
    entry.connect("changed", lambda entry: print(entry.get_text(), flush=True))
    Gtk.ApplicationWindow(application=application, title="A field", child=entry).present()

application = Gtk.Application()
application.connect("activate", activate)
application.run()
"""


def setUpModule():
    global server
    set_up_desktop()
    server = Server(home)
    models(*os.listdir(ROOT + "/models"))
    subprocess.run((PROGRAM, "permissions", "allow", PROGRAM), check=True)


def tearDownModule():
    server.stop()
    tear_down_desktop()


def recordings():
    with open(ROOT + "/models/eval/speech.jsonl") as file:
        for line in file:
            item = json.loads(line)
            yield "%s/models/eval/%s" % (ROOT, item["sound"]), item["text"].split()


def right(text, words):
    """Heard well enough not to be chance: most of the words."""
    return len(set(text.split()) & set(words)) * 2 > len(set(words))


class Dictate(unittest.TestCase):
    def tearDown(self):
        end_daemon(signal.SIGTERM)

    def dictate(self, *words, stdin=subprocess.DEVNULL, **environment):
        """One that is ready to hear."""
        process = start(PROGRAM, "dictate", "--json", *words, stdin=stdin, stdout=subprocess.PIPE,
                        text=True, env=dict(os.environ, G_DEBUG="fatal-criticals", **environment))
        process.events = []
        self.read(process, lambda e: e["event"] == "listening" and e["on"])
        return process

    def read(self, process, until):
        for line in process.stdout:
            process.events.append(json.loads(line))
            if until(process.events[-1]):
                return process.events[-1]
        self.fail("%s ended: %s" % (process.args, process.events))

    def end(self, process, status=0):
        process.events += [json.loads(line) for line in process.stdout]
        self.assertEqual(process.wait(), status, process.events)
        return " ".join(e["text"] for e in process.events if e["event"] == "transcript")

    def hear_one(self, process, sink="room"):
        """Play recordings until one was written down as it is."""
        for path, words in recordings():
            server.play(path, sink)
            text = self.read(process, lambda e: e["event"] == "transcript")["text"]
            if right(text, words):
                return text
        self.fail("nothing was heard right in %s" % process.events)

    def test_what_is_said_is_printed_until_it_is_silent(self):
        process = self.dictate("--silence", "2")
        self.hear_one(process)
        self.end(process)
        self.assertIn("waited", [e["event"] for e in process.events])

    def test_what_the_computer_plays_is_written_down(self):
        process = self.dictate("--silence", "2", "--source", "monitor")
        self.hear_one(process, "spk")
        self.end(process)

    def test_a_second_one_ends_the_first_with_what_was_said(self):
        process = self.dictate("--silence", "0")
        player = start("paplay", "-d", "room", next(recordings())[0])
        self.read(process, lambda e: e["event"] == "partial")
        self.assertEqual(subprocess.run((PROGRAM, "dictate")).returncode, 0)
        self.assertTrue(self.end(process))
        player.wait()

    def test_a_key_ends_it(self):
        ours, theirs = pty.openpty()
        process = self.dictate("--silence", "0", stdin=theirs)
        os.write(ours, b" ")
        self.assertEqual(self.end(process), "")
        os.close(ours)
        os.close(theirs)

    def test_text_goes_into_the_clipboard(self):
        process = self.dictate("--silence", "2", "--to", "clipboard")
        self.hear_one(process)
        text = self.end(process)
        self.assertEqual(subprocess.run(("xclip", "-o", "-selection", "clipboard"),
                                        capture_output=True, text=True).stdout, text)

    def test_text_is_typed_into_the_window_that_has_the_keyboard(self):
        window = start("/usr/bin/python3", "-c", ENTRY, stdout=subprocess.PIPE, text=True)
        xdotool("search", "--sync", "--onlyvisible", "--name", "A field", "windowfocus", "--sync")
        process = self.dictate("--silence", "2", "--to", "window")
        self.hear_one(process)
        text = self.end(process)
        typed = ""
        while typed != text:
            typed = window.stdout.readline().rstrip("\n")
            self.assertTrue(typed, "the window is gone, with %r of %r" % (typed, text))
        window.terminate()

    def portal(self, answer):
        process = start("/usr/bin/python3", __file__, "portal", answer, stdout=subprocess.PIPE,
                        text=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def test_the_portal_of_a_wayland_desktop_types(self):
        portal = self.portal("0")
        process = self.dictate("--silence", "2", "--to", "window", WAYLAND_DISPLAY="none")
        self.hear_one(process)
        text = self.end(process)
        portal.terminate()
        self.assertEqual(portal.stdout.read(), text)

    def test_who_may_not_type_is_told(self):
        for environment, words, status in (
                ({"WAYLAND_DISPLAY": "none"}, "you said no", 5),
                ({"WAYLAND_DISPLAY": "none", "PATH": "/nowhere"}, "wtype is not installed", 1),
                ({"PATH": "/nowhere"}, "needs xdotool", 1),
                ({"DISPLAY": ""}, "no windows here", 1)):
            portal = self.portal("1") if status == 5 else None
            done = subprocess.run((PROGRAM, "dictate", "--to", "window"), capture_output=True,
                                  text=True, env=dict(os.environ, **environment))
            if portal:
                portal.terminate()
                portal.wait()
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(words, done.stderr)
        done = subprocess.run((PROGRAM, "dictate", "--to", "clipboard"), capture_output=True,
                              text=True, env=dict(os.environ, PATH="/nowhere"))
        self.assertIn("xclip on X11", done.stderr)

    def test_a_daemon_that_dies_is_told(self):
        process = self.dictate("--silence", "0")
        end_daemon(signal.SIGKILL)
        self.end(process, 3)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])
