# SPDX-License-Identifier: MIT
"""A desktop for the tests of windows: a screen (Xvfb), a bus that starts the daemon, and the
accessibility tree that a screen reader reads. Import it first; it takes PROGRAM DAEMON SOURCE_ROOT
from the command line.

SHOTS=FOLDER in the environment keeps a picture of the screen after each test.
"""
import itertools
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import gi

PROGRAM, DAEMON, ROOT = map(os.path.abspath, sys.argv[1:4])  # permissions go by the whole path
NAME = "org.lfmd.Assistant1"
# seconds; nothing here waits for its end unless it fails
PATIENCE = int(os.environ.get("PATIENCE", 60))

home = tempfile.mkdtemp()
service = home + "/data/dbus-1/services/%s.service" % NAME
started = []


def start(*command, **more):
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **more)
    started.append(process)
    return process


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def install_service():
    write(service,
          "[D-BUS Service]\nName=%s\nExec=/usr/bin/env XDG_DATA_DIRS=%s/data %s --config "
          "%s/lfmd.conf\n" % (NAME, home, DAEMON, home))


# A bus and a screen of our own stand before the libraries look for them.
os.environ.update(
    HOME=home, XDG_DATA_HOME=home + "/home", XDG_STATE_HOME=home + "/state",
    XDG_CONFIG_HOME=home + "/config", XDG_RUNTIME_DIR=home + "/run",
    XDG_DATA_DIRS=home + "/data:/usr/local/share:/usr/share", NO_AT_BRIDGE="0",
    GDK_BACKEND="x11", GSK_RENDERER="cairo", GTK_A11Y="atspi", GSETTINGS_BACKEND="memory",
    LC_ALL="C.UTF-8", GTK_IM_MODULE="gtk-im-context-simple",
    # Leaks are GTK's and fontconfig's; the limit stands for that of the preview, which would not
    # let ASan start.
    ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024:" +
    os.environ.get("ASAN_OPTIONS", ""))
os.makedirs(home + "/run", mode=0o700)
write(home + "/lfmd.conf", "[models]\ndirectories = %s/models\n" % home)
install_service()
# Portals that are installed here ask xclip for what it does not have, and believe what it says.
for portal in "Desktop", "Documents":
    write("%s/data/dbus-1/services/org.freedesktop.portal.%s.service" % (home, portal),
          "[D-BUS Service]\nName=org.freedesktop.portal.%s\nExec=/bin/false\n" % portal)
display = start("Xvfb", "-displayfd", "1", "-screen", "0", "1000x800x24", "-fbdir", home,
                "-nolisten", "tcp", stdout=subprocess.PIPE)
os.environ["DISPLAY"] = ":" + display.stdout.readline().decode().strip()
bus = start("dbus-daemon", "--session", "--nofork", "--print-address=1", stdout=subprocess.PIPE)
os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().decode().strip()

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, Gio, GLib  # noqa: E402


def setUpModule():
    global desktop
    Atspi.init()
    desktop = Atspi.get_desktop(0)


def tearDownModule():
    for process in reversed(started):
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
    shutil.rmtree(home, ignore_errors=True)


def wait_for(condition, what):
    """What the condition returns, once it is true."""
    end = time.monotonic() + PATIENCE
    while True:
        while GLib.MainContext.default().iteration(False):
            pass
        try:
            got = condition()
        # an object that went while it was looked at
        except (GLib.Error, TypeError, AttributeError):
            got = None
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited in vain for " + (what() if callable(what) else what))
        time.sleep(0.02)


def models(*files):
    """The model folder holds these of the repository and no others."""
    shutil.rmtree(home + "/models", ignore_errors=True)
    os.mkdir(home + "/models")
    for file in files:
        if file.endswith(".gguf"):
            shutil.copy(ROOT + "/models/" + file, home + "/models")


def ask_bus(method, *name):
    connection = Gio.bus_get_sync(Gio.BusType.SESSION)
    reply = connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                 "org.freedesktop.DBus", method,
                                 GLib.Variant("(s)", name) if name else None, None, 0, -1)
    return reply.unpack()


def daemon_pid():
    try:
        return ask_bus("GetConnectionUnixProcessID", NAME)[0]
    except GLib.Error:
        return None


def end_daemon(number=signal.SIGKILL):
    pid = daemon_pid()
    if pid:
        os.kill(pid, number)
        wait_for(lambda: daemon_pid() != pid, "the end of the daemon")


def xdotool(*arguments):
    subprocess.run(["xdotool", *arguments], check=True, stdout=subprocess.DEVNULL)


def everything(accessible):
    """All that is below it, but for what controls are made of."""
    role = accessible.get_role_name()
    yield accessible, role
    if role in ("push button", "text", "label", "image", "scroll bar"):
        return
    for i in range(accessible.get_child_count()):
        child = accessible.get_child_at_index(i)
        if child:
            yield from everything(child)


def showing(accessible):
    """GTK 4.8 knows of VISIBLE only."""
    return accessible.get_state_set().contains(Atspi.StateType.VISIBLE)


def text_of(accessible):
    return Atspi.Text.get_text(accessible, 0, Atspi.Text.get_character_count(accessible))


def clipboard(data, kind):
    subprocess.run(["xclip", "-selection", "clipboard", "-t", kind], input=data, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def paste(done, what):
    """Ctrl+V until it is done: the window hears of a new clipboard when the X server gets round to
    it."""
    next_try = 0

    def pasted():
        nonlocal next_try
        if not done() and time.monotonic() > next_try:
            xdotool("key", "ctrl+v")
            next_try = time.monotonic() + 3
        return done()

    wait_for(pasted, what)


def drop(path, done):
    """Drag a file into the window until it is done."""
    source = start("/usr/bin/python3", ROOT + "/tests/clients/drag_source.py", path)
    xdotool("search", "--sync", "--onlyvisible", "--pid", str(source.pid), "--name", "drag",
            "windowmove", "--sync", "700", "0")
    steps = itertools.cycle(["mousemove 750 50", "mousedown 1", "mousemove 770 70",
                             "mousemove 600 100",
                             "mousemove 400 150", "mousemove 300 200", "mousemove 310 210",
                             "mouseup 1"])

    def dropped():
        """The pointer goes at the pace at which the windows are looked at, as often as it takes."""
        if done():
            return True
        xdotool(*next(steps).split())
        return False

    wait_for(dropped, "what was dropped")


def pixel(x, y):
    """Of the screen: Xvfb keeps it in a file in xwd's format."""
    with open(home + "/Xvfb_screen0", "rb") as file:
        header = struct.unpack(">25I", file.read(100))
        file.seek(header[0] + 12 * header[19] + header[12] * y + 4 * x)
        return file.read(3)


class Window:
    """The first window of a program. title: what its title holds."""

    def __init__(self, title, *arguments, **environment):
        self.title = title
        self.process = start(PROGRAM, *arguments, env=dict(os.environ, **environment))
        self.known = {}  # a walk through the tree takes its time
        self.frame = wait_for(self.find_frame, "the window")
        self.xdotool("windowfocus")

    def xdotool(self, *arguments):
        xdotool("search", "--sync", "--onlyvisible", "--all", "--pid", str(self.process.pid),
                "--name", self.title, *arguments)

    def find_frame(self):
        for i in range(desktop.get_child_count()):
            application = desktop.get_child_at_index(i)
            if (application and application.get_process_id() == self.process.pid and
                    application.get_child_count()):
                application.set_cache_mask(Atspi.Cache.NONE)  # what is, not what was
                return application.get_child_at_index(0)
        assert self.process.poll() is None
        return None

    def look(self, role, name):
        """A control that is there now."""
        known = self.known.get((role, name))
        try:
            if known and known.get_name() == name and showing(known):
                return known
        except GLib.Error:
            pass
        for accessible, its_role in everything(self.frame):
            if its_role == role and accessible.get_name() == name and showing(accessible):
                self.known[role, name] = accessible
                return accessible
        return None

    def find(self, role, name):
        return wait_for(lambda: self.look(role, name),
                        lambda: "%s %r in\n%s" % (role, name, self.tree()))

    def tree(self):
        return "\n".join("%s %r" % (role, a.get_name()) for a, role in everything(self.frame)
                         if showing(a))

    def press(self, name):
        self.find("push button", name).do_action(0)

    def notice(self, part):
        wait_for(lambda: any(role == "label" and re.search(part, a.get_name())
                             for a, role in everything(self.frame)),
                 lambda: "a notice with %r in\n%s" % (part, self.tree()))

    def close(self):
        xdotool("key", "ctrl+w")
        status = self.process.wait(PATIENCE)
        started.remove(self.process)
        return status


class Case(unittest.TestCase):
    window = Window  # or a class made of it

    def setUp(self):
        self.windows = []
        for kept in "state", "config":  # by the test before
            shutil.rmtree("%s/%s" % (home, kept), ignore_errors=True)

    def tearDown(self):
        if "SHOTS" in os.environ:
            subprocess.run(["import", "-window", "root",
                            "%s/%s.png" % (os.environ["SHOTS"], self._testMethodName)])
        for window in self.windows:
            if window.process.poll() is None:
                window.process.kill()
                window.process.wait()
                started.remove(window.process)
        end_daemon()

    def open(self, *arguments, **environment):
        window = self.window(*arguments, **environment)
        self.windows.append(window)
        return window
