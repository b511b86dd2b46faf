# SPDX-License-Identifier: MIT
"""Pictures that the default vision model is trained and tested on, and questions about them.

Everything is drawn or rendered here from a random number generator and a split: shapes, printed
words in free fonts, icons and flags of Debian's packages, and mixtures of words and shapes.

  None      training
  "test"    scenes, words, icon sizes kept out of training by their checksum
  "theme"   the same with icons of a theme that training never sees
  "free"    test scenes that may be handed on: no icons but those of the public domain

A scene knows, besides its questions, what every 32 x 32 pixel token of its view shows: the centre
of an object, the n-th letter of a word. That is the dense target of the encoder's first stage.
"""

import colorsys
import functools
import json
import math
import pathlib
import random
import subprocess

from PIL import Image, ImageDraw, ImageFont

import vision
import words

COLOURS = {"red": (214, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 215),
           "yellow": (242, 216, 50), "orange": (242, 140, 30), "purple": (135, 50, 165),
           "black": (14, 14, 14), "white": (246, 246, 246)}
SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]
PLURALS = {s: s + ("es" if s == "cross" else "s") for s in SHAPES}
CORNERS = ["top left", "top right", "bottom left", "bottom right"]
MIDDLE = "middle"
FONTS = {
    "/usr/share/fonts/truetype/dejavu": ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif",
                                         "DejaVuSerif-Bold", "DejaVuSansMono",
                                         "DejaVuSansCondensed"],
    "/usr/share/fonts/truetype/liberation": ["LiberationSans-Regular", "LiberationSans-Bold",
                                             "LiberationSerif-Regular", "LiberationSerif-Bold",
                                             "LiberationMono-Bold"],
    "/usr/share/fonts/truetype/freefont": ["FreeSans", "FreeSansBold", "FreeSerif", "FreeMonoBold"],
    "/usr/share/fonts/truetype/open-sans": ["OpenSans-Regular", "OpenSans-Bold"],
    "/usr/share/fonts/truetype/lato": ["Lato-Regular", "Lato-Bold"],
    "/usr/share/fonts/truetype/roboto/unhinted/RobotoTTF": ["Roboto-Regular", "Roboto-Bold"],
}
SIGNS = """STOP OPEN EXIT SALE CAFE HOTEL BANK TAXI BUS SHOP HELP SAVE CANCEL YES NO OK QUIT CLOSE
PLAY PAUSE START NEXT BACK DONE EDIT SEND PRINT COPY DELETE APPLY LOGIN RETRY SKIP FREE NEW OFF ON
MENU WAIT PUSH PULL SLOW DANGER LUNCH PARK ZOO MUSEUM WATER MILK BREAD""".split()
SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
TINY = "tiny"  # class of the first token of a word that is too small to be read

ICON_THEMES = ["Tango", "gnome", "Faenza", "Papirus", "elementary-xfce"]
ICON_THEME_KEPT = "oxygen"
ICON_THEME_FREE = "Tango"  # in the public domain
ICONS = {
    "folder": ["folder"], "house": ["user-home"], "computer": ["computer"], "printer": ["printer"],
    "camera": ["camera-photo"], "phone": ["phone"], "battery": ["battery"],
    "trash": ["user-trash"], "mail": ["internet-mail", "mail-unread"],
    "calendar": ["x-office-calendar"], "calculator": ["accessories-calculator"],
    "terminal": ["utilities-terminal"], "globe": ["web-browser"], "help": ["help-browser"],
    "document": ["text-x-generic", "x-office-document"], "music": ["audio-x-generic"],
    "picture": ["image-x-generic"], "film": ["video-x-generic"], "package": ["package-x-generic"],
    "keyboard": ["input-keyboard"], "mouse": ["input-mouse"],
    "microphone": ["audio-input-microphone"], "drive": ["drive-harddisk"],
    "disc": ["media-optical"], "lock": ["system-lock-screen"],
    "search": ["system-search", "edit-find"], "warning": ["dialog-warning"],
    "error": ["dialog-error"], "information": ["dialog-information"], "sun": ["weather-clear"],
    "moon": ["weather-clear-night"], "cloud": ["weather-overcast"], "rain": ["weather-showers"],
    "snow": ["weather-snow"], "scissors": ["edit-cut"], "smile": ["face-smile"],
    "speaker": ["audio-volume-high"], "network": ["network-workgroup"],
    "floppy": ["media-floppy"], "broom": ["edit-clear"], "plus": ["list-add"],
}
FLAGS = {"France": "fr", "Spain": "es", "Italy": "it", "Germany": "de", "Poland": "pl",
         "Norway": "no", "Japan": "jp", "China": "cn", "India": "in", "Brazil": "br",
         "Canada": "ca", "Egypt": "eg", "Kenya": "ke", "Peru": "pe", "Chile": "cl", "Cuba": "cu",
         "Greece": "gr", "Turkey": "tr", "Iran": "ir", "Mexico": "mx"}
FLAG_FOLDER = pathlib.Path("/usr/share/iso-flags-svg")
HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE / "work" / "icons"
WIDGETS = HERE / "work" / "widgets"
WIDGET_KINDS = ["button", "button", "suggested", "check", "radio", "entry"]
CLASSES = ["nothing"] + SHAPES + [f"{n} icon" for n in ICONS] + [f"flag of {n}" for n in FLAGS] \
    + list(SYMBOLS) + [TINY]


# --- material of other packages -----------------------------------------------------------------

def rendered(source, width):
    """An RGBA picture of an SVG or PNG file, rendered once into the cache."""
    if source.suffix == ".png":
        return Image.open(source).convert("RGBA")
    kept = CACHE / f"{'_'.join(source.resolve().parts[4:])}-{width}.png"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["rsvg-convert", "-w", str(width), "-a", "-o", kept, source],
                              capture_output=True)
        if done.returncode:
            return None
    return Image.open(kept).convert("RGBA")


def size_of(path):
    """The size that a theme's folder names (48, 48x48), 0 for scalable ones."""
    for part in path.parts[::-1]:
        digits = part.split("x")[0].split("@")[0]
        if digits.isdigit():
            return int(digits)
    return 0


@functools.cache
def icon_pictures(name, theme):
    """[(size, picture)] of an icon in a theme."""
    found = {}
    for entry in ICONS[name]:
        for path in sorted(pathlib.Path("/usr/share/icons", theme).rglob(f"{entry}.*")):
            size = size_of(path)
            if path.suffix not in (".png", ".svg") or {"symbolic", "@2x"} & set(path.parts):
                continue
            if path.suffix == ".png" and size < 32:
                continue
            if path.suffix == ".svg" and 0 < size < 22:
                continue
            for wanted in ([size] if path.suffix == ".png" else [64, 128]):
                if (entry, size, wanted) not in found and path.exists():
                    picture = rendered(path, wanted)
                    if picture:
                        found[entry, size, wanted] = picture
    return [(wanted, picture) for (_, _, wanted), picture in sorted(found.items(), key=str)]


@functools.cache
def flag_picture(country):
    return rendered(FLAG_FOLDER / "country-4x3" / f"{FLAGS[country]}.svg", 256)


@functools.cache
def widget_pictures(split):
    """[(description, picture)] of words on GTK widgets, rendered once."""
    folder = WIDGETS / ("test" if split else "train")
    if not (folder / "list.json").exists():
        rng = random.Random(f"widgets {folder.name}")
        wanted = []
        for i in range(300 if split else 1500):
            word = printed(rng, split)
            wanted.append({"file": f"{i}.png", "kind": rng.choice(WIDGET_KINDS), "said": word,
                           "word": rng.choice([word.capitalize(), word.lower(), word]),
                           "size": rng.randint(9, 15), "dark": rng.random() < 0.3})
        subprocess.run(["xvfb-run", "-a", "/usr/bin/python3", HERE / "widgets.py", folder],
                       input=json.dumps(wanted), text=True, check=True)
    return [(w, Image.open(folder / w["file"]).convert("RGB"))
            for w in json.loads((folder / "list.json").read_text())]


@functools.cache
def font(path, size):
    return ImageFont.truetype(path, size)


TYPEFACES = [f"{folder}/{name}.ttf" for folder, names in FONTS.items() for name in names]


# --- drawing ------------------------------------------------------------------------------------

def near(rng, rgb, by):
    return tuple(max(0, min(255, c + rng.randint(-by, by))) for c in rgb)


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5


def background(rng, taken):
    """A colour that stands out from the taken ones."""
    for attempt in range(1000):
        kind = rng.random()
        if kind < 0.45:
            rgb = near(rng, (235, 235, 235), 20)
        elif kind < 0.6:
            rgb = near(rng, (40, 40, 45), 30)
        else:
            rgb = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(
                rng.random(), rng.uniform(0, 0.35), rng.uniform(0.3, 1)))
        if all(distance(rgb, t) > (120 if attempt < 60 else 70) for t in taken):
            break
    return rgb


def outline_of(kind, x, y, r, turn):
    """Corners of a shape."""
    def around(radii, start):
        n = len(radii)
        return [(x + q * math.cos(start + 2 * math.pi * i / n),
                 y + q * math.sin(start + 2 * math.pi * i / n)) for i, q in enumerate(radii)]

    if kind == "square":
        return around([1.2 * r] * 4, math.pi / 4 + turn)
    if kind == "triangle":
        return around([1.15 * r] * 3, -math.pi / 2 + turn)
    if kind == "star":
        return around([1.2 * r, 0.5 * r] * 5, -math.pi / 2 + turn)
    if kind == "heart":
        points = []
        for i in range(40):
            t = 2 * math.pi * i / 40
            points.append((x + r * math.sin(t) ** 3, y - r / 15 * (
                13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))))
        return points
    t = 0.36 * r  # cross
    corners = [(-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t), (t, r), (-t, r), (-t, t),
               (-r, t), (-r, -t), (-t, -t)]
    return [(x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) +
             b * math.cos(turn)) for a, b in corners]


def draw_shape(rng, pen, rgb, kind, x, y, r):
    if kind == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=rgb)
    else:
        turn = rng.uniform(-0.15, 0.15)
        pen.polygon(outline_of(kind, x, y, r, turn), fill=rgb)


class Scene:
    """A picture and what it shows.

    objects: [(colour or None, kind, place)]; texts: words in reading order, None for one that is
    too small; labels: {token: (class, colour, place)} with None where a part does not apply;
    painted: (x0, y0, x1, y1, class) of every letter and object, in parts of the picture; outlines:
    (x, y, radius) of every shape in pixels.
    """

    def __init__(self, size):
        self.width, self.height = size
        limits = vision.Config(out=0)
        self.view = vision.view_size(*size, limits.min_tokens, limits.max_tokens)
        self.cols, self.rows = self.view[0] // vision.TOKEN, self.view[1] // vision.TOKEN
        self.cell = self.width / self.cols, self.height / self.rows
        self.objects, self.texts, self.labels, self.painted = [], [], {}, []
        self.outlines = []
        self.image = None

    def paint(self, x0, y0, x1, y1, name):
        self.painted.append((x0 / self.width, y0 / self.height, x1 / self.width, y1 / self.height,
                             name))

    def inside(self, x, y):
        """The nearest point that lies well inside its token, and the token."""
        col = min(self.cols - 1, int(x / self.cell[0]))
        row = min(self.rows - 1, int(y / self.cell[1]))
        u = min(0.8, max(0.2, x / self.cell[0] - col))
        v = min(0.8, max(0.2, y / self.cell[1] - row))
        return (col + u) * self.cell[0], (row + v) * self.cell[1], row * self.cols + col


def sizes(rng, words_only=False):
    """Width and height of a picture as a file may have them."""
    aspect = rng.choice([1, 1, 1, 4 / 3, 3 / 4, 3 / 2, 16 / 9, 2 / 3, 2, 1.2] +
                        ([2.5, 3, 4, 2, 2] if words_only else []))
    side = math.exp(rng.uniform(math.log(100), math.log(400)))
    if rng.random() < 0.25:
        side = rng.choice([128, 160, 192, 256])
    return max(64, round(side * aspect ** 0.5)), max(64, round(side / aspect ** 0.5))


def printed(rng, split, signs=0.5):
    """A word that the split may print, in capitals; `signs` is the share of the words of SIGNS."""
    kept = split is not None
    while True:
        if rng.random() < signs:
            word = rng.choice(words.NEVER if kept else SIGNS).upper()
        elif (kind := rng.random()) < 0.5:
            word = words.invented(rng, kept, False, 1, 3).upper()
        elif kind < 0.85:
            word = "".join(rng.choice(SYMBOLS[:26]) for _ in range(rng.randint(2, 7)))
        else:
            return str(rng.randint(10, 99999))
        if len(word) <= 8 and (word in SIGNS or (words.bucket(word.lower(), 10) == 0) == kept):
            return word


PLAIN = ["DejaVuSans-Bold", "LiberationSans-Bold", "FreeSansBold"]


def write_word(rng, scene, pen, word, row, rgb, high=0.85, plain=False):
    """Prints a word into a row of tokens; too small to be read where the word is None."""
    cw, ch = scene.cell
    path = rng.choice([f for f in TYPEFACES if not plain or pathlib.Path(f).stem in PLAIN])
    if word is None:
        text = f"{words.invented(rng, False, True, 2, 3)} {words.invented(rng, False)}"
        size = max(4, round(0.17 * ch))
    else:
        text = word if plain else rng.choice([word, word, word.lower(), word.capitalize()])
        size = max(9, round(rng.uniform(0.7 if plain else 0.5, high) * ch * 1.15))
    face = font(path, size)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=face)
    room = scene.width * 0.94
    if right - left > room:
        size = max(7, int(size * room / (right - left)))
        face = font(path, size)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=face)
        if right - left > scene.width or (word is not None and size < 0.33 * ch):
            return False
    x = rng.uniform(0.02 * scene.width, max(0.02, 0.98) * scene.width - (right - left))
    if rng.random() < 0.5:
        x = (scene.width - (right - left)) / 2
    middle = (row + 0.5 + rng.uniform(-0.1, 0.1)) * ch
    y = min(max(1, middle - (bottom - top) / 2), scene.height - (bottom - top) - 1)
    pen.text((x - left, y - top), text, font=face, fill=rgb)
    spell = [TINY] if word is None else word
    for i, letter in enumerate(spell):
        scene.labels[row * scene.cols + i] = (letter, None, None)
    scene.texts.append(word)
    if word is not None:  # where every letter stands, for the encoder's middle layer
        for i, letter in enumerate(word):
            before = face.getlength(text[:i])
            after = face.getlength(text[:i + 1])
            scene.paint(x - left + before, y, x - left + after, y + bottom - top, letter)
    return True


def canvas(rng, scene, taken):
    rgb = background(rng, taken)
    scene.image = Image.new("RGB", (scene.width, scene.height), rgb)
    pen = ImageDraw.Draw(scene.image)
    if rng.random() < 0.15 and all(distance(rgb, t) > 150 for t in taken):  # a lit edge
        other = near(rng, rgb, 25)
        pen.rectangle([0, 0, scene.width, scene.height * rng.random()], fill=other)
    return rgb, pen


def ink(rng, rgb):
    """A colour for print on a ground."""
    while True:
        tone = rng.choice(list(COLOURS.values())) if rng.random() < 0.6 else \
            tuple(rng.randint(0, 255) for _ in range(3))
        if distance(tone, rgb) > 200:
            return tone


def corner_of(scene, place, top, bottom):
    """Centre of a place, the picture reaching from top to bottom."""
    if place == MIDDLE:
        return scene.width / 2, (top + bottom) / 2
    return (scene.width * (0.25 if "left" in place else 0.75),
            top + (bottom - top) * (0.25 if "top" in place else 0.75))


def sketch(rng, split, size, full=False, top=0.0, bottom=None):
    """A scene of shapes between two heights that says what it shows, without a picture."""
    scene = Scene(size)
    bottom = float(scene.height) if bottom is None else bottom
    while True:
        n = 4 if full else rng.choice([1, 2, 2, 3, 3, 4])
        places = rng.sample(CORNERS, n)
        if n == 1 and rng.random() < 0.4:
            places = [MIDDLE]
        listed = tuple(sorted((rng.choice(list(COLOURS)), rng.choice(SHAPES), p) for p in places))
        if (words.bucket(listed, 8) == 0) == (split is not None):
            break
    reach = min(scene.width, bottom - top)
    for colour, kind, place in listed:
        x, y = corner_of(scene, place, top, bottom)
        shift = 0.05 * reach
        x, y, token = scene.inside(x + rng.uniform(-shift, shift), y + rng.uniform(-shift, shift))
        r = reach * rng.uniform(0.11, 0.19) * (1.6 if place == MIDDLE else 1)
        scene.objects.append((colour, kind, place))
        scene.labels[token] = (kind, colour, place)
        scene.paint(x - r, y - r, x + r, y + r, kind)
        scene.outlines.append((x, y, r))
    scene.kind = "shapes"
    return scene


def shape_scene(rng, split, size, with_word, full=False):
    frame, word_row = Scene(size), None
    top, bottom = 0.0, float(frame.height)
    if with_word and frame.rows >= 4:
        word_row = rng.choice([0, frame.rows - 1])
        top, bottom = (frame.cell[1], bottom) if word_row == 0 else (0.0, bottom - frame.cell[1])
    scene = sketch(rng, split, size, full, top, bottom)
    tones = [near(rng, COLOURS[c], 14) for c, _, _ in scene.objects]
    rgb, pen = canvas(rng, scene, tones)
    for (_, kind, _), tone, (x, y, r) in zip(scene.objects, tones, scene.outlines):
        draw_shape(rng, pen, tone, kind, x, y, r)
    if word_row is not None:
        for _ in range(20):
            word = None if rng.random() < 0.1 else printed(rng, split)
            if (word is None or len(word) <= scene.cols) and write_word(
                    rng, scene, pen, word, word_row, ink(rng, rgb), 0.75):
                break
    return scene


def word_scene(rng, split, size, full=False):
    """A sign, a label or a button with one or two words; full: a page, often in plain capitals."""
    scene = Scene(size)
    plain = full and rng.random() < 0.6
    rgb, pen = canvas(rng, scene, [])
    style = rng.random()
    if style < 0.5:  # a board
        board = near(rng, rng.choice(list(COLOURS.values())), 25) if style < 0.3 else \
            background(rng, [])
        m = 0.02 * min(size)
        box = [m, m, scene.width - m, scene.height - m]
        edge = ink(rng, board) if rng.random() < 0.5 else None
        pen.rounded_rectangle(box, radius=rng.choice([0, 0.1, 0.2]) * min(size), fill=board,
                              outline=edge, width=max(1, round(0.015 * min(size))))
        rgb = board
    count = 2 if scene.rows >= 2 and rng.random() < 0.35 else 1
    rows = sorted(rng.sample(range(scene.rows), count))
    if count == 1 and rng.random() < 0.6:
        rows = [(scene.rows - 1) // 2]
    if full:
        rows, count = range(scene.rows), scene.rows
    tone = ink(rng, rgb)
    if plain:
        tone = (0, 0, 0) if sum(rgb) > 380 else (255, 255, 255)
    for row in rows:
        for _ in range(40):
            word = None if rng.random() < 0.06 else printed(rng, split, 0.1 if full else 0.5)
            if word is not None and len(word) > scene.cols:
                continue
            if write_word(rng, scene, pen, word, row, tone, 2.0 if count == 1 else 0.85,
                          plain):
                break
    return scene


def widget_scene(rng, split, size):
    """A piece of a window: a button, a check box, an entry with a word."""
    scene = Scene(size)
    while True:
        widget, picture = rng.choice(widget_pictures(split))
        if len(widget["said"]) <= scene.cols:
            break
    scene.image = Image.new("RGB", (scene.width, scene.height), picture.getpixel((0, 0)))
    scale = rng.uniform(0.6, 0.99) * min(scene.width / picture.width, scene.height / picture.height)
    small = picture.resize((max(8, round(picture.width * scale)),
                            max(8, round(picture.height * scale))), Image.Resampling.BILINEAR)
    x = rng.uniform(0, scene.width - small.width)
    y = rng.uniform(0, scene.height - small.height)
    middle = y + small.height / 2
    row = min(scene.rows - 1, int(middle / scene.cell[1]))
    part = middle / scene.cell[1] - row
    y = min(max(0, y + (min(0.75, max(0.25, part)) - part) * scene.cell[1]),
            scene.height - small.height)
    scene.image.paste(small, (round(x), round(y)))
    for i, (letter, box) in enumerate(zip(widget["said"], widget["letters"])):
        scene.labels[row * scene.cols + i] = (letter, None, None)
        scene.paint(x + box[0] * small.width, y + box[1] * small.height, x + box[2] * small.width,
                    y + box[3] * small.height, letter)
    scene.texts.append(widget["said"])
    return scene


def paste(scene, picture, x, y, side):
    """Puts an RGBA picture with its longer side at a centre."""
    scale = side / max(picture.size)
    small = picture.resize((max(8, round(picture.width * scale)),
                            max(8, round(picture.height * scale))), Image.Resampling.BILINEAR)
    scene.image.paste(small, (round(x - small.width / 2), round(y - small.height / 2)), small)


@functools.cache
def icon_choices(split):
    """[(name, theme, index)] of the icon pictures that a split may show."""
    themes = {"theme": [ICON_THEME_KEPT], "free": [ICON_THEME_FREE]}.get(split, ICON_THEMES)
    listed = []
    for name in ICONS:
        for theme in themes:
            for i, _ in enumerate(icon_pictures(name, theme)):
                kept = words.bucket((name, theme, i), 5) == 0
                if split == "theme" or kept == (split is not None):
                    listed.append((name, theme, i))
    return listed


def icon_scene(rng, split, size, full=False):
    scene = Scene(size)
    choices = icon_choices(split)
    n = 4 if full else rng.choice([1, 1, 1, 1, 2, 3, 4])
    places = [MIDDLE] if n == 1 else rng.sample(CORNERS, n)
    canvas(rng, scene, [])
    names = {}
    reach = min(size)
    for place in sorted(places):
        while True:
            name = rng.choice(list(ICONS))
            fitting = [c for c in choices if c[0] == name]
            if fitting and (name not in names.values() or rng.random() < 0.2):
                break
        names[place] = name
        _, theme, index = rng.choice(fitting)
        x, y = corner_of(scene, place, 0, scene.height)
        shift = 0.06 * reach
        x, y, token = scene.inside(x + rng.uniform(-shift, shift), y + rng.uniform(-shift, shift))
        side = reach * (rng.uniform(0.5, 0.92) if n == 1 else rng.uniform(0.3, 0.46))
        paste(scene, icon_pictures(name, theme)[index][1], x, y, side)
        scene.paint(x - side / 2, y - side / 2, x + side / 2, y + side / 2, f"{name} icon")
        scene.objects.append((None, f"{name} icon", place))
        scene.labels[token] = (f"{name} icon", None, place)
    return scene


def flag_scene(rng, split, size):
    scene = Scene(size)
    canvas(rng, scene, [])
    country = rng.choice(list(FLAGS))
    x, y = corner_of(scene, MIDDLE, 0, scene.height)
    shift = 0.06 * min(size)
    x, y, token = scene.inside(x + rng.uniform(-shift, shift), y + rng.uniform(-shift, shift))
    side = min(size[0], size[1] * 4 / 3) * rng.uniform(0.5, 0.98)
    paste(scene, flag_picture(country), x, y, side)
    scene.paint(x - side / 2, y - side * 3 / 8, x + side / 2, y + side * 3 / 8,
                f"flag of {country}")
    scene.objects.append((None, f"flag of {country}", MIDDLE))
    scene.labels[token] = (f"flag of {country}", None, MIDDLE)
    return scene


KINDS = {"shapes": 0.74, "shapes and word": 0.09, "words": 0.04, "widgets": 0.03, "icons": 0.06,
         "flags": 0.04}


def scene(rng, split=None, kind=None, size=None, full=False):
    """One scene; a full one shows as much as there is room for."""
    kind = kind or rng.choices(list(KINDS), list(KINDS.values()))[0]
    size = size or sizes(rng, kind in ("words", "widgets"))
    if kind == "words":
        made = word_scene(rng, split, size, full)
    elif kind == "widgets":
        made = widget_scene(rng, split, size)
    elif kind == "icons":
        made = icon_scene(rng, split, size, full)
    elif kind == "flags":
        made = flag_scene(rng, split, size)
    else:
        made = shape_scene(rng, split, size, kind != "shapes", full)
    made.kind = kind
    return made
