# SPDX-License-Identifier: MIT
"""Renders words on real GTK 3 widgets, for pictures.py. Runs under the system's Python:

    xvfb-run -a /usr/bin/python3 train/widgets.py FOLDER < WORDS.json

reads [{"file", "word", "kind", "size", "dark"}, ...] and writes the PNG files and FOLDER/list.json,
which says where every letter stands, in parts of the picture.
"""

import json
import pathlib
import sys

import gi

gi.require_version("Gtk", "3.0")
from gi.repository import GLib, Gtk, Pango  # noqa: E402

KINDS = ["button", "suggested", "check", "radio", "entry"]


def widget_of(kind, word):
    """The widget and, in it, the one that has the text."""
    if kind == "entry":
        entry = Gtk.Entry(text=word, width_chars=len(word) + 2)
        return entry, entry
    made = {"check": Gtk.CheckButton, "radio": Gtk.RadioButton}.get(kind, Gtk.Button)(label=word)
    if kind == "suggested":
        made.get_style_context().add_class("suggested-action")
    return made, made


def label_in(widget):
    if isinstance(widget, Gtk.Label):
        return widget
    children = widget.get_children() if isinstance(widget, Gtk.Container) else []
    return next((found for child in children if (found := label_in(child))), None)


def settle():
    for _ in range(40):
        if not Gtk.events_pending():
            GLib.usleep(1000)
        while Gtk.events_pending():
            Gtk.main_iteration()


def render(folder, wanted):
    settings = Gtk.Settings.get_default()
    settings.set_property("gtk-application-prefer-dark-theme", wanted["dark"])
    settings.set_property("gtk-font-name", f"Sans {wanted['size']}")
    settings.set_property("gtk-enable-animations", False)
    window = Gtk.OffscreenWindow()
    widget, speaker = widget_of(wanted["kind"], wanted["word"])
    widget.set_margin_top(4)
    widget.set_margin_bottom(4)
    widget.set_margin_start(4)
    widget.set_margin_end(4)
    window.add(widget)
    window.show_all()
    settle()
    picture = window.get_pixbuf()
    width, height = picture.get_width(), picture.get_height()
    text = speaker if isinstance(speaker, Gtk.Entry) else label_in(widget)
    layout, (left, top) = text.get_layout(), text.get_layout_offsets()
    if isinstance(text, Gtk.Entry):  # offsets inside the widget
        left, top = left + 4, top + 4
    letters = []
    for i in range(len(wanted["word"])):
        box = layout.index_to_pos(i)
        letters.append([(left + box.x / Pango.SCALE) / width, (top + box.y / Pango.SCALE) / height,
                        (left + (box.x + box.width) / Pango.SCALE) / width,
                        (top + (box.y + box.height) / Pango.SCALE) / height])
    picture.savev(str(folder / wanted["file"]), "png", [], [])
    window.destroy()
    return {**wanted, "letters": letters}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    done = [render(folder, wanted) for wanted in json.load(sys.stdin)]
    (folder / "list.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
