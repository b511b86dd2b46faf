# SPDX-License-Identifier: MIT
"""The actions of the file managers, taken from what is installed and run as each of them does, for
names that people and attackers give to files. In the place of lfm-ask stands a program that notes
its arguments.

usage: /usr/bin/python3 test_file_managers.py LFM_ASK DATA_BUILD SOURCE_ROOT
"""
import glob
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

import gi

LFM_ASK, DATA, ROOT = sys.argv[1:4]
IMAGES = ROOT + "/tests/data/vision/images"
NAMES = ["plain.png", "two  spaces.png", "it's \"quoted\".png", "-dash.png", "--version.png",
         "$(touch x)`id`;&|.png",
         "back\\slash.png", "100%F %U %%.png", "Grüße 東京 🙂.png", "tab\tin it.png", "new\nline.png",
         "~.png", "*.png"]

# GLib reads them once: they stand before it is loaded.
home = tempfile.mkdtemp()
os.environ.update(PATH=home + "/bin:" + os.environ["PATH"], HOME=home, XDG_DATA_HOME=home + "/data",
                  XDG_CONFIG_HOME=home + "/config", XDG_CONFIG_DIRS=home + "/system")
for folder in "bin", "data/applications", "pictures":
    os.makedirs("%s/%s" % (home, folder))
shutil.copy(DATA + "/org.lfmd.Ask.desktop", home + "/data/applications")
with open(home + "/bin/lfm-ask", "w") as program:
    program.write("#!/bin/sh\nprintf '%%s\\0' \"$@\" >'%s/new' && mv '%s/new' '%s/arguments'\n" %
                  (home, home, home))
os.chmod(home + "/bin/lfm-ask", 0o755)

from gi.repository import Gio, GLib, GObject  # noqa: E402


def tearDownModule():
    shutil.rmtree(home)


def pictures():
    """Files with all the names."""
    paths = ["%s/pictures/%s" % (home, name) for name in NAMES]
    for path in paths:
        shutil.copy(IMAGES + "/rgb.png", path)
    return paths


def got():
    """The arguments that the last start was given."""
    path = home + "/arguments"
    while not os.path.exists(path):
        GLib.MainContext.default().iteration(False)
    with open(path, "rb") as file:
        arguments = file.read().decode().split("\0")[:-1]
    os.unlink(path)
    return arguments


def key_file(path):
    keys = GLib.KeyFile()
    keys.load_from_file(path, GLib.KeyFileFlags.NONE)
    return keys


def types(text):
    return [word for word in text.split(";") if word]


def file_class(interface):
    """Files as a file manager shows them to its extensions."""

    class File(GObject.Object, interface):
        def __init__(self, path, mime_type="image/png"):
            super().__init__()
            self.path, self.mime_type = path, mime_type

        def do_get_mime_type(self):
            return self.mime_type

        def do_get_location(self):
            return Gio.File.new_for_path(self.path)

    return File


def load(name):
    spec = importlib.util.spec_from_file_location(name, "%s/file-managers/%s.py" % (DATA, name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Python(unittest.TestCase):
    """Nautilus and Caja load extensions; the real libraries of both take part."""

    def look(self, namespace, version, extension, *window):
        gi.require_version(namespace, version)
        library = importlib.import_module("gi.repository." + namespace)
        File = file_class(library.FileInfo)
        provider = load(extension).AskAboutImage()
        self.assertIsInstance(provider, library.MenuProvider)
        paths = pictures()

        def items(*files):
            return provider.get_file_items(*window, list(files))

        [item] = items(*map(File, paths))
        self.assertEqual(item.get_property("label"), "Ask about this image")
        item.activate()
        self.assertEqual(got(), paths)
        [item] = items(File(paths[3]))
        item.activate()
        self.assertEqual(got(), [paths[3]])
        self.assertEqual(items(), [])
        self.assertEqual(items(File(paths[0], "text/plain")), [])
        self.assertEqual(items(File(paths[0]), File(paths[1], "inode/directory")), [])

    def test_nautilus_asks_about_the_selected_pictures(self):
        self.look("Nautilus", "4.0", "nautilus")

    def test_caja_asks_about_the_selected_pictures(self):
        self.look("Caja", "2.0", "caja", None)


class Entries(unittest.TestCase):
    def launch(self, keys, group):
        """What GIO and KIO make of Exec, of one and of many files."""
        desktop = GLib.KeyFile()
        for key, value in [("Type", "Application"), ("Name", keys.get_string(group, "Name")),
                           ("Exec", keys.get_string(group, "Exec"))]:
            desktop.set_string("Desktop Entry", key, value)
        application = Gio.DesktopAppInfo.new_from_keyfile(desktop)
        paths = pictures()
        for some in paths, paths[:1]:
            application.launch([Gio.File.new_for_path(path) for path in some], None)
            self.assertEqual(got(), some)

    def test_the_application_opens_pictures(self):
        self.launch(key_file(DATA + "/org.lfmd.Ask.desktop"), "Desktop Entry")

    def test_thunar_sends_pictures(self):
        self.launch(key_file(DATA + "/file-managers/thunar-sendto.desktop"), "Desktop Entry")

    def test_dolphin_asks_about_the_selected_pictures(self):
        keys = key_file(DATA + "/file-managers/kio.desktop")
        self.assertEqual(keys.get_string("Desktop Entry", "Type"), "Service")
        [action] = types(keys.get_string("Desktop Entry", "Actions"))
        self.launch(keys, "Desktop Action " + action)

    def test_nemo_asks_about_the_selected_pictures(self):
        keys, group = key_file(DATA + "/file-managers/lfm-ask.nemo_action"), "Nemo Action"
        self.assertEqual(keys.get_string(group, "Selection"), "notnone")
        for name in types(keys.get_string(group, "Dependencies")):
            self.assertTrue(shutil.which(name))
        paths = pictures()
        command = keys.get_string(group, "Exec").replace("%F", " ".join(map(shlex.quote, paths)))
        GLib.spawn_command_line_async(command)
        self.assertEqual(got(), paths)

    def test_all_of_them_are_for_the_same_kinds_and_these_are_what_the_files_are(self):
        lists = [key_file(path).get_string(group, key) for path, group, key in [
            (DATA + "/org.lfmd.Ask.desktop", "Desktop Entry", "MimeType"),
            (DATA + "/file-managers/thunar-sendto.desktop", "Desktop Entry", "MimeType"),
            (DATA + "/file-managers/kio.desktop", "Desktop Entry", "MimeType"),
            (DATA + "/file-managers/lfm-ask.nemo_action", "Nemo Action", "Mimetypes")]]
        self.assertEqual(len(set(lists)), 1)
        self.assertTrue(lists[0].endswith(";"))  # Nemo ignores the last one without it
        paths = glob.glob(IMAGES + "/*")
        self.assertGreater(len(paths), 20)
        for path in paths:
            file = Gio.File.new_for_path(path)
            kind = file.query_info("standard::content-type", 0).get_content_type()
            self.assertIn(kind, types(lists[0]), path)


class Thunar(unittest.TestCase):
    """`lfm-ask --install-thunar-action`, the real one."""

    path = home + "/config/Thunar/uca.xml"

    def setUp(self):
        shutil.rmtree(home + "/config", ignore_errors=True)
        shutil.rmtree(home + "/system", ignore_errors=True)

    def run_verb(self, verb, status=0):
        result = subprocess.run([LFM_ASK, "--%s-thunar-action" % verb], capture_output=True,
                                text=True)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stderr

    def write(self, text, path=None):
        path = path or self.path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def read(self):
        with open(self.path) as file:
            return file.read()

    def own(self):
        return [a for a in ET.parse(self.path).getroot() if a.findtext("unique-id") ==
                "org.lfmd.Ask"]

    def test_the_action_is_for_pictures_and_runs(self):
        self.run_verb("install")
        [action] = self.own()
        self.assertIsNotNone(action.find("image-files"))
        paths = pictures()
        command = action.findtext("command").replace("%F", " ".join(map(shlex.quote, paths)))
        GLib.spawn_command_line_async(command)
        self.assertEqual(got(), paths)

    def test_other_actions_stay_as_they_are(self):
        before = ('<?xml version="1.0" encoding="UTF-8"?>\n<actions>\n<action>\n'
                  '\t<name>Über &amp; out</name>\n\t<unique-id>123-1</unique-id>\n'
                  '\t<command>x %f</command>\n</action>\n</actions>\n')
        self.write(before)
        self.run_verb("install")
        self.run_verb("install")
        self.assertEqual(len(self.own()), 1)
        self.assertEqual(len(ET.parse(self.path).getroot()), 2)
        self.assertTrue(self.read().startswith(before.removesuffix("</actions>\n")))
        self.run_verb("remove")
        self.assertEqual(self.read(), before)
        self.run_verb("remove")
        self.assertEqual(self.read(), before)

    def test_the_first_action_of_a_person_keeps_those_of_the_system(self):
        self.write("<actions>\n<action><name>terminal</name></action>\n</actions>\n",
                   home + "/system/Thunar/uca.xml")
        self.run_verb("install")
        self.assertEqual(len(ET.parse(self.path).getroot()), 2)

    def test_nothing_to_remove_is_no_failure_and_makes_no_file(self):
        self.run_verb("remove")
        self.assertFalse(os.path.exists(self.path))

    def test_what_is_no_list_of_actions_is_left_alone(self):
        self.write("something else")
        self.assertIn("left as it is", self.run_verb("install", 1))
        self.assertEqual(self.read(), "something else")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertIn("uca.xml", self.run_verb("install", 1))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
