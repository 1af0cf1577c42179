"""What scikit-learn makes of inputs for metrics.

Reads a JSON array of {"metric": name, …} from standard input and prints an array of numbers; null where scikit-learn has
none.
"""

import json
import math
import sys
import warnings

import numpy as np
from sklearn import metrics

warnings.filterwarnings("ignore")


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
    raise ValueError(kind)


found = [float(value_of(asked)) for asked in json.load(sys.stdin)]
print(json.dumps([None if math.isnan(value) else value for value in found]))
