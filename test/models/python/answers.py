"""Real samples for real models, and what Python's ONNX Runtime answers to them.

Reads a JSON object from standard input: {"models": {name: path}, "iris": [[four numbers, class]…], "sources": folder,
"directory": folder}. Writes a golden set <name>.npz for each model, and iris.onnx, into the directory, and prints what
the answers mean as a JSON object.
"""

import glob
import json
import os
import sys
import tarfile
from importlib.util import find_spec

import numpy as np
import onnxruntime
from PIL import Image
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

asked = json.load(sys.stdin)
meaning = {"onnxruntime": onnxruntime.__version__}
# Images are files of the package; it is not imported, and what it would import is not installed.
IMAGES = os.path.join(os.path.dirname(find_spec("skimage").origin), "data")


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def save(name, inputs, outputs, **more):
    """Arrays are named as a golden set has them; each of `inputs` and `outputs` is {name: samples}."""
    known = {f"output:{output}": values for output, values in outputs.items()}
    np.savez_compressed(os.path.join(asked["directory"], f"{name}.npz"), **inputs, **known, **more)


def run_at_once(name, inputs, **more):
    session = session_of(asked["models"][name])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs)))
    save(name, inputs, outputs, **more)
    return outputs


def run_one_by_one(name, inputs, **more):
    """For models that take one sample at a time, along their first axis."""
    session = session_of(asked["models"][name])
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(inputs.values())))
    rows = [session.run(names, {key: all[at : at + 1] for key, all in inputs.items()}) for at in range(count)]
    outputs = {output: np.concatenate(parts) for output, parts in zip(names, zip(*rows))}
    save(name, inputs, outputs, **more)
    return outputs


def image(file, mode="RGB"):
    return Image.open(os.path.join(IMAGES, file)).convert(mode)


def speech():
    """A recording at 8 kHz, 16 bit: almost a second of somebody speaking, with silence on both sides."""
    [archive] = glob.glob(os.path.join(asked["sources"], "webrtcvad-*.tar.gz"))
    with tarfile.open(archive) as files:
        [member] = [one for one in files.getmembers() if one.name.endswith("/test-audio.raw")]
        data = files.extractfile(member).read()
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def voice(name, memory, context):
    """Frames of 256 samples, each with the end of the one before; the memory of the network goes from frame to frame."""
    session = session_of(asked["models"][name])
    names = [output.name for output in session.get_outputs()]
    silence = np.zeros(256 * 4, np.float32)
    heard = np.concatenate([silence, speech(), silence])
    heard = heard[: len(heard) // 256 * 256]
    state = {key: np.zeros(shape, np.float32) for key, shape in memory.items()}
    before = np.zeros(context, np.float32)
    feeds, answers = [], []
    for at in range(0, len(heard), 256):
        frame = np.concatenate([before, heard[at : at + 256]])[None]
        feed = {"input": frame, "sr": np.array(8000, np.int64), **state}
        answer = session.run(names, feed)
        feeds.append(feed)
        answers.append(answer)
        state = dict(zip(memory, answer[1:]))
        before = frame[0, len(frame[0]) - context :]
    inputs = {key: np.stack([feed[key] for feed in feeds]) for key in feeds[0]}
    outputs = {key: np.stack([answer[at] for answer in answers]) for at, key in enumerate(names)}
    save(name, inputs, outputs)
    chances = outputs["output"].reshape(-1)
    meaning[name] = {"silence": float(chances[:3].max()), "speech": float(chances[8:24].max())}


def faces(name, size):
    face = image("astronaut.png").crop((130, 0, 330, 200))
    pictures = [face, image("coffee.png"), image("chelsea.png"), image("astronaut.png")]
    pixels = [np.asarray(one.resize((size, size)), np.float32) / 127.5 - 1 for one in pictures]
    outputs = run_one_by_one(name, {"input:0": np.stack(pixels)})
    best = [max(outputs["Identity:0"][at].max(), outputs["Identity_1:0"][at].max()) for at in range(len(pictures))]
    meaning[name] = {"face": float(best[0]), "coffee": float(best[1])}


def channels_first(picture, mean, deviation):
    pixels = np.asarray(picture, np.float32) / 255
    return ((pixels - np.float32(mean)) / np.float32(deviation)).astype(np.float32).transpose(2, 0, 1)


PAGE = image("page.png").convert("RGB")
# The heading, and the beginning of the third line below it.
LINES = [(0, 6, 290, 40), (0, 76, 143, 97)]


def text_found():
    pages = [PAGE, PAGE.transpose(Image.Transpose.ROTATE_180)]
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    x = np.stack([channels_first(page.resize((384, 192)), mean, deviation) for page in pages])
    [(_, found)] = run_at_once("text-detector", {"x": x}).items()
    meaning["text-detector"] = {"heading": float(found[0, 0, 8:36, 10:230].max()), "margin": float(found[0, 0, 155:160, 250:].max())}


def text_read():
    """Greedy CTC: the most probable character of each step, repetitions and blanks left out."""
    with open(asked["characters"], encoding="utf8") as file:
        characters = ["", *file.read().splitlines(), " "]
    width = 480
    strips = []
    for box in LINES:
        line = PAGE.crop(box)
        line = line.resize((min(width, round(line.width * 48 / line.height)), 48))
        strip = Image.new("RGB", (width, 48), (128, 128, 128))
        strip.paste(line, (0, 0))
        strips.append(channels_first(strip, [0.5] * 3, [0.5] * 3))
    [(_, steps)] = run_at_once("text-recogniser", {"x": np.stack(strips)}).items()
    meaning["text-recogniser"] = []
    for line in steps.argmax(axis=2):
        kept = [code for at, code in enumerate(line) if code != 0 and (at == 0 or line[at - 1] != code)]
        meaning["text-recogniser"].append("".join(characters[code] for code in kept))


def text_turned():
    """Labels: 0 upright, 1 upside down."""
    upright = [PAGE.crop(box).resize((192, 48)) for box in ((0, 6, 140, 40), (0, 76, 84, 97))]
    turned = [one.transpose(Image.Transpose.ROTATE_180) for one in upright]
    x = np.stack([channels_first(one, [0.5] * 3, [0.5] * 3) for one in upright + turned])
    run_at_once("text-direction", {"x": x}, labels=np.array([0, 0, 1, 1]))


def flowers():
    """A forest, grown on four fifths of the flowers and judged by the rest."""
    rows = asked["iris"]
    x = np.array([row[:4] for row in rows], np.float32)
    labels = np.array([row[4] for row in rows], np.int64)
    order = np.random.RandomState(7).permutation(len(rows))
    train, rest = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    forest = RandomForestClassifier(n_estimators=25, max_depth=4, random_state=7, n_jobs=1).fit(x[train], labels[train])
    model = to_onnx(forest, x[:1], options={id(forest): {"zipmap": False}}, target_opset={"": 17, "ai.onnx.ml": 3})
    path = os.path.join(asked["directory"], "iris.onnx")
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
    asked["models"]["iris"] = path
    outputs = run_at_once("iris", {"X": x[rest]}, labels=labels[rest])
    own = forest.predict_proba(x[rest])
    meaning["iris"] = {
        "samples": len(rest),
        "accuracy": float(forest.score(x[rest], labels[rest])),
        "difference": float(np.abs(own - outputs["probabilities"]).max()),
    }


voice("voice-legacy", {"h": (2, 1, 64), "c": (2, 1, 64)}, 0)
voice("voice-v5", {"state": (2, 1, 128)}, 32)
voice("voice-v6", {"state": (2, 1, 128)}, 32)
faces("faces-near", 128)
faces("faces-far", 256)
text_found()
text_read()
text_turned()
flowers()
json.dump(meaning, sys.stdout)
