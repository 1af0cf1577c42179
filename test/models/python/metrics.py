"""What scikit-learn makes of inputs for metrics.

Reads a JSON array of {"metric": name, …} from standard input and prints an array of numbers; null where scikit-learn has
none.
"""

import functools
import json
import math
import sys
import warnings

import numpy as np
from sklearn import metrics

warnings.filterwarnings("ignore")


def edits(expected, got):
    """Levenshtein's distance, by its recursive definition."""

    @functools.cache
    def between(i, j):
        if i == 0 or j == 0:
            return i + j
        replaced = between(i - 1, j - 1) + (expected[i - 1] != got[j - 1])
        return min(replaced, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(expected), len(got))


def error_rate(asked, parts):
    total = sum(len(parts(text)) for text in asked["expected"])
    if total == 0:
        return math.nan
    pairs = zip(asked["expected"], asked["got"], strict=True)
    return sum(edits(tuple(parts(a)), tuple(parts(b))) for a, b in pairs) / total


def box_match(asked):
    def corners(box):
        a, b, c, d = box
        if asked["format"] == "CornerSize":
            return a, b, a + c, b + d
        if asked["format"] == "CenterSize":
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
        return a, b, c, d

    def area(left, top, right, bottom):
        return max(0, right - left) * max(0, bottom - top)

    def overlap(one, other):
        common = area(max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
        return common / (area(*one) + area(*other) - common)

    pairs = total = 0
    for wanted, found in zip(asked["expected"], asked["got"], strict=True):
        expected, got = ([box for box in map(corners, side) if area(*box) > 0] for side in (wanted, found))
        total += len(expected) + len(got)
        while expected and got:
            best = max(((overlap(one, other), one, other) for one in expected for other in got), key=lambda pair: pair[0])
            if best[0] < asked["threshold"]:
                break
            pairs += 1
            expected.remove(best[1])
            got.remove(best[2])
    return math.nan if total == 0 else 2 * pairs / total


def value_of(asked):
    kind = asked["metric"]
    if kind in ("rocAuc", "averagePrecision"):
        labels, scores = np.array(asked["labels"]), np.array(asked["scores"], dtype=np.float64)
        if kind == "rocAuc":
            return metrics.roc_auc_score(labels, scores)
        return metrics.average_precision_score(labels, scores)
    if kind in ("macroRocAuc", "macroAveragePrecision"):
        scores = np.array(asked["scores"], dtype=np.float64)
        onehot = np.eye(scores.shape[1], dtype=int)[np.array(asked["labels"])]
        if kind == "macroRocAuc":
            return metrics.roc_auc_score(onehot, scores, average="macro")
        return metrics.average_precision_score(onehot, scores, average="macro")
    if kind in ("rootMeanSquaredError", "meanAbsoluteError"):
        expected, got = (np.array(asked[side], dtype=np.float64) for side in ("expected", "got"))
        function = metrics.root_mean_squared_error if kind == "rootMeanSquaredError" else metrics.mean_absolute_error
        return function(expected, got)
    if kind == "maskIou":
        expected, got = (np.array(asked[side]) > asked["threshold"] for side in ("expected", "got"))
        if not expected.any() and not got.any():
            return math.nan
        return metrics.jaccard_score(expected, got)
    if kind == "accuracy":
        return metrics.accuracy_score(asked["labels"], np.argmax(np.array(asked["scores"]), axis=1))
    if kind == "classAccuracy":
        found = np.argmax(np.array(asked["scores"]), axis=1)
        return metrics.recall_score(asked["labels"], found, labels=np.unique(asked["labels"]), average=None).min()
    if kind == "topKAccuracy":
        scores = np.array(asked["scores"])
        classes = np.arange(scores.shape[1])
        return metrics.top_k_accuracy_score(asked["labels"], scores, k=asked["k"], labels=classes)
    if kind == "wordErrorRate":
        return error_rate(asked, str.split)
    if kind == "characterErrorRate":
        return error_rate(asked, list)
    if kind == "boxMatch":
        return box_match(asked)
    raise ValueError(kind)


found = [float(value_of(asked)) for asked in json.load(sys.stdin)]
print(json.dumps([None if math.isnan(value) else value for value in found]))
