# SPDX-License-Identifier: MIT
"""A window whose middle can be dragged away as a file.

usage: drag_source.py FILE
"""
import sys

import gi

gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, Gio, GLib, Gtk  # noqa: E402

window = Gtk.Window(title="drag", default_width=200, default_height=200)
source = Gtk.DragSource()
source.connect("prepare", lambda *_: Gdk.ContentProvider.new_for_bytes(
    "text/uri-list",
    GLib.Bytes.new((Gio.File.new_for_path(sys.argv[1]).get_uri() + "\r\n").encode())))
window.add_controller(source)
window.present()
GLib.MainLoop().run()
