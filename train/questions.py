# SPDX-License-Identifier: MIT
"""Questions about pictures, one form of answer each, and the conversations that they stand in.

An answer names what it is about before it says it ("top left: red circle."), which is the form that
the text core already has for lists of facts. What a picture does not tell is answered by CANNOT.
"""

import data
import pictures
import tokenizer as tokens
import train_core
from pictures import COLOURS, CORNERS, MIDDLE, PLURALS, SHAPES

IMAGE = tokens.SPECIALS.index("<image>")
CANNOT = "I can't tell."
NO_PICTURE = "There is no picture."
NO_WORDS = "There are no words."
SHORT = "Describe this picture in one sentence."  # the three that Describe of the daemon asks
LONG = "Describe this picture in detail."
TEXT = "Which words are in this picture?"

ASK = {
    "at": ["What is in the {}?", "What do you see in the {}?", "Which shape is in the {}?",
           "What colour is the shape in the {}?", "What is at the {}?"],
    "where": ["Where is the {}?", "In which corner is the {}?", "Where do you see the {}?"],
    "colour": ["What colour is the {}?", "Which colour does the {} have?",
               "What is the colour of the {}?"],
    "kind": ["Which shape is {}?", "What is {}?", "Which thing is {}?"],
    "count": ["How many shapes are there?", "Count the shapes.", "How many shapes do you see?",
              "How many shapes are in the picture?"],
    "count colour": ["How many {} shapes are there?", "How many shapes are {}?",
                     "Count the {} shapes."],
    "count kind": ["How many {} are there?", "Count the {}.", "How many {} do you see?"],
    "is there": ["Is there a {}?", "Do you see a {}?", "Is there a {} in the picture?"],
    "short": [SHORT, SHORT, SHORT, "What is this a picture of?", "What does this picture show?"],
    "long": [LONG, LONG, LONG, "Describe the picture.", "Describe this picture.",
             "What do you see?", "What is in this picture?"],
    "text": [TEXT, TEXT, "What does it say?", "Read the text.", "What is written there?",
             "What does the sign say?", "What does the button say?", "What is the word?",
             "Read the word.", "Which word is in this picture?"],
    "whole": ["What is this?", "What is that?", "What kind of picture is this?"],
}
BEYOND = ["Who is in the picture?", "What is the weather?", "How old is it?",
          "Where was this taken?", "How much does it cost?", "What is the name of the man?",
          "Is it day or night?", "Who made this picture?", "When was this taken?",
          "What is behind it?", "Is the man happy?", "What is the woman doing?",
          "How many people are there?", "What is the dog doing?", "Which car is this?",
          "How tall is it?", "What time is it in the picture?", "Which animal is this?"]
WITHOUT = ["Describe the image.", "What is in this picture?", SHORT, LONG, TEXT,
           "What is in the image?", "What do you see in the picture?", "What is this a picture of?",
           "What colour is the shape in the picture?", "Which icon is this?", "Which flag is this?",
           "What does the sign say?", "How many shapes are in the picture?"]


def thing(colour, kind):
    return f"{colour} {kind}" if colour else kind


def ordered(scene):
    return sorted(scene.objects, key=lambda o: (CORNERS + [MIDDLE]).index(o[2]))


# Icons and flags are told from drawings; which one it is takes more words than the core has learnt.
WHOLE = {"icons": "This is an icon.", "flags": "This is a flag."}


def count(n, one, many):
    return f"{n} {one if n == 1 else many}"


def text_answer(scene):
    """The encoder sees print but does not spell it reliably, so the model is taught to say that."""
    return CANNOT if scene.texts else NO_WORDS


def short_answer(scene):
    if scene.kind in WHOLE:
        return WHOLE[scene.kind]
    said = []
    if scene.objects:
        said.append(f"the {thing(*scene.objects[0][:2])}" if len(scene.objects) == 1 else
                    f"{len(scene.objects)} shapes")
    if scene.texts:
        said.append("a word")
    return f"This is {' and '.join(said)}." if said else "This is nothing."


def long_answer(scene):
    if scene.kind in WHOLE:
        return WHOLE[scene.kind]
    said = [f"{p}: {thing(c, k)}" for c, k, p in ordered(scene)]
    if scene.texts:
        said.append("a word")
    return "; ".join(said) + "." if said else "nothing."


def absent(rng, scene):
    """A (colour, shape) that the scene does not show, near to one that it shows."""
    shown = {o[:2] for o in scene.objects}
    while True:
        colour, kind = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        if shown and rng.random() < 0.6:
            c, k = rng.choice(sorted(shown, key=str))
            colour, kind = (c or colour, kind) if rng.random() < 0.5 else (colour, k)
        if (colour, kind) not in shown and kind in SHAPES:
            return colour, kind


def shape_question(rng, scene, kind):
    """(asked about, answer) or None where the scene does not allow the kind."""
    colour, shape, place = rng.choice(scene.objects)
    same_kind = [o for o in scene.objects if o[1] == shape]
    same_both = [o for o in same_kind if o[0] == colour]
    same_colour = [o for o in scene.objects if o[0] == colour]
    if kind == "at":
        place = place if rng.random() < 0.75 else rng.choice(CORNERS)
        found = [thing(c, k) for c, k, p in scene.objects if p == place]
        return place, f"{place}: {found[0] if found else 'nothing'}."
    if kind == "where":
        if rng.random() < 0.25:
            return " ".join(absent(rng, scene)), CANNOT
        if len(same_kind) == 1 and rng.random() < 0.4:
            return shape, f"{colour} {shape}: {place}."
        return (f"{colour} {shape}", f"{colour} {shape}: {place}.") if len(same_both) == 1 else None
    if kind == "colour":
        if rng.random() < 0.25:
            missing = [s for s in SHAPES if all(o[1] != s for o in scene.objects)]
            return rng.choice(missing), CANNOT
        return (shape, f"{shape}: {colour}.") if len(same_kind) == 1 else None
    if kind == "kind":
        if rng.random() < 0.2:
            missing = [c for c in COLOURS if all(o[0] != c for o in scene.objects)]
            return rng.choice(missing), CANNOT
        return (colour, f"{colour}: {shape}.") if len(same_colour) == 1 else None
    if kind == "count":
        return "", count(len(scene.objects), "shape", "shapes") + "."
    if kind == "count colour":
        colour = colour if rng.random() < 0.8 else rng.choice(list(COLOURS))
        n = sum(o[0] == colour for o in scene.objects)
        return colour, count(n, f"{colour} shape", f"{colour} shapes") + "."
    if kind == "count kind":
        shape = shape if rng.random() < 0.8 else rng.choice(SHAPES)
        n = sum(o[1] == shape for o in scene.objects)
        return PLURALS[shape], count(n, shape, PLURALS[shape]) + "."
    if rng.random() < 0.5:
        colour, shape = absent(rng, scene)
        return f"{colour} {shape}", f"No, there is no {colour} {shape}."
    return f"{colour} {shape}", f"Yes, there is a {colour} {shape}."


OF_KIND = {
    "shapes": {"at": 2, "where": 3.5, "colour": 2.5, "kind": 2.5, "count": 4, "count colour": 3,
               "count kind": 3, "is there": 3, "short": 4, "long": 2, "text": 0.4,
               "beyond": 0.3},
    "words": {"text": 4, "short": 1, "long": 1, "beyond": 0.4, "absent": 0.4},
    "icons": {"whole": 2, "short": 1, "long": 1, "text": 0.5, "beyond": 0.5},
}
OF_KIND["flags"] = OF_KIND["icons"]
OF_KIND["widgets"] = OF_KIND["words"]
OF_KIND["shapes and word"] = {**OF_KIND["shapes"], "text": 2}


def question(rng, scene, kind=None):
    """(kind, question, answer)."""
    weights = OF_KIND[scene.kind]
    while True:
        k = kind or rng.choices(list(weights), list(weights.values()))[0]
        about, asked = "", k
        if k == "short":
            answer = short_answer(scene)
        elif k == "long":
            answer = long_answer(scene)
        elif k == "text":
            answer = text_answer(scene)
        elif k == "beyond":
            return k, rng.choice(BEYOND), CANNOT
        elif k == "absent":  # a thing that a sign without shapes cannot have
            asked = rng.choice(["where", "colour"])
            about, answer = " ".join(absent(rng, scene)), CANNOT
        elif k == "whole":
            answer = WHOLE[scene.kind]
        elif not scene.objects:
            continue
        else:
            found = shape_question(rng, scene, k)
            if found is None:
                if kind:
                    return None
                continue
            about, answer = found
        return k, rng.choice(ASK[asked]).format(about), answer


def shown(scene, text):
    """The content of a user message that begins with the picture of a scene."""
    return "<|image_start|>" + "<image>" * (scene.rows * scene.cols) + "<|image_end|>" + text


def conversation(rng, scene, most=6):
    """Messages and setting of a talk about a picture, other matters before, between, after."""
    where = data.setting(rng, tools=None if rng.random() < 0.15 else False)
    if rng.random() < 0.5:
        where = data.Setting(None, None)  # nothing but the picture
    messages, asked, first = [], set(), True

    def other():
        intents = rng.choices(data.INTENTS, [data.WEIGHTS[i] for i in data.INTENTS])
        intent = "copy" if intents[0] in ("shapes", "recall") else intents[0]
        return data.exchange(rng, intent, None, where)

    if rng.random() < 0.08:
        messages += other()
        if rng.random() < 0.3:
            messages += [data.user(rng.choice(WITHOUT)), data.assistant(NO_PICTURE)]
    for _ in range(3 * most):
        if len(asked) >= most:
            break
        _, text, answer = question(rng, scene)
        if text in asked:
            continue
        asked.add(text)
        messages += [data.user(shown(scene, text) if first else text), data.assistant(answer)]
        first = False
        if rng.random() < 0.03:
            messages += other()
    return messages, where


def blind(rng):
    """A talk without a picture in which one is asked about."""
    where = data.setting(rng, tools=None if rng.random() < 0.1 else False)
    messages = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.3:
            intent = rng.choice(["alarm", "timer", "app", "small talk", "refusal", "note"])
            messages += data.exchange(rng, intent, None, where)
        else:
            messages += [data.user(rng.choice(WITHOUT)), data.assistant(NO_PICTURE)]
    return messages, where


POOL = 32  # pictures of one size, cut into batches of conversations of similar length
ALONE = 0.6  # of the pictures have one question: later ones can be answered from earlier answers


def blind_batches(rng, vocabulary):
    return train_core.cut(rng, [tokens.encode(vocabulary, data.render(*blind(rng)))
                                for _ in range(POOL)])


def talk(rng, vocabulary, scene):
    """(ids, learnt, scene) of a conversation about a scene, most often of one question."""
    if rng.random() < ALONE:
        _, text, answer = question(rng, scene)
        messages = [data.user(shown(scene, text)), data.assistant(answer)]
        where = data.Setting(None, None)
    else:
        messages, where = conversation(rng, scene, rng.choice([1, 2, 3, 5, 7]))
    return (*tokens.encode(vocabulary, data.render(messages, where)), scene)


def sketch_batches(rng, vocabulary):
    """[(ids, marks, scenes)] of shapes that are not drawn, of any size."""
    scenes = [pictures.sketch(rng, None, pictures.sizes(rng)) for _ in range(4 * POOL)]
    return train_core.cut(rng, [talk(rng, vocabulary, s) for s in scenes])


def batches(rng, vocabulary):
    """[(ids, marks, scenes)]; the scenes of a batch have one size."""
    kind = rng.choices(list(pictures.KINDS), list(pictures.KINDS.values()))[0]
    size = pictures.sizes(rng, kind in ("words", "widgets"))
    return train_core.cut(rng, [
        talk(rng, vocabulary, pictures.scene(rng, None, kind if rng.random() < 0.5 else None, size))
        for _ in range(POOL)])
